"""Whatever is seen, in whatever order: properties of every judgement."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.cluster import ClusterView, Failure, Rules, Sample, first_view, judge
from tests.cluster.samples import OURS, STRANGER, addresses

NAMES = ("db1", "db2", "db3")

lsns = st.none() | st.integers(0, 2**63 - 1)
timelines = st.none() | st.integers(1, 4)
identifiers = st.sampled_from([None, OURS, STRANGER])

failures = st.builds(
    Sample,
    at=st.just(0.0),
    round_trip_s=st.floats(0, 5),
    failure=st.sampled_from(Failure),
    reason=st.just("failed"),
)
successes = st.builds(
    Sample,
    at=st.just(0.0),
    round_trip_s=st.floats(0, 5),
    in_recovery=st.booleans(),
    timeline=timelines,
    insert_lsn=lsns,
    receive_lsn=lsns,
    replay_lsn=lsns,
    fork_lsn=lsns,
    replay_age_s=st.none() | st.floats(-10, 1e6),
    streaming=st.none() | st.booleans(),
    read_only=st.none() | st.booleans(),
    system_identifier=identifiers,
)
# Each step: some node was probed, with this outcome.
steps = st.lists(st.tuples(st.sampled_from(NAMES), failures | successes), max_size=30)


def views(history: list[tuple[str, Sample]]) -> list[ClusterView]:
    """Judge after every step, one tenth of a second apart, as the monitor does."""
    rules = Rules()
    view = first_view("main", addresses(*NAMES), 0.0)
    seen: dict[str, list[Sample]] = {name: [] for name in NAMES}
    result = []
    for number, (name, sample) in enumerate(history):
        now = number / 10
        stamped = Sample(
            **{field: getattr(sample, field) for field in sample.__slots__ if field != "at"}, at=now
        )
        seen[name] = [*seen[name], stamped][-rules.history :]
        view = judge(view, seen, now, rules)
        result.append(view)
    return result


@given(steps)
def test_there_are_never_two_primaries(history: list[tuple[str, Sample]]) -> None:
    for view in views(history):
        assert sum(node.role == "primary" for node in view.nodes) <= 1


@given(steps)
def test_the_published_primary_is_a_node_that_plays_that_role_and_is_not_down(
    history: list[tuple[str, Sample]],
) -> None:
    for view in views(history):
        if view.primary is not None:
            node = view.node(view.primary)
            assert (node.role, node.in_recovery) == ("primary", False)
            assert node.state in ("up", "suspect")


@given(steps)
def test_no_node_that_can_be_seen_is_on_a_higher_timeline_than_the_primary(
    history: list[tuple[str, Sample]],
) -> None:
    for view in views(history):
        primary = view.primary_node
        if primary is None or primary.timeline is None:
            continue
        ours = [n for n in view.nodes if n.system_identifier in (None, view.system_identifier)]
        assert all((node.timeline or 0) <= primary.timeline for node in ours)


@given(steps)
def test_a_node_of_another_cluster_never_has_a_role(history: list[tuple[str, Sample]]) -> None:
    for view in views(history):
        for node in view.nodes:
            if node.system_identifier not in (None, view.system_identifier):
                assert node.role is None


@given(steps)
def test_the_same_history_gives_the_same_picture(history: list[tuple[str, Sample]]) -> None:
    assert views(history) == views(history)


@given(steps)
def test_lag_is_never_negative(history: list[tuple[str, Sample]]) -> None:
    for view in views(history):
        for node in view.nodes:
            assert (node.lag_bytes or 0) >= 0
            assert (node.lag_s or 0.0) >= 0.0


@given(steps)
def test_every_state_and_every_absence_has_a_reason(history: list[tuple[str, Sample]]) -> None:
    for view in views(history):
        assert view.reason
        assert all(node.reason for node in view.nodes)
