"""Which nodes serve a target."""

from proxy.pool import NodePlace
from proxy.pool.nodes import pick_nodes
from proxy.server import Place


def node(name: str, role: str, *roles: str, is_up: bool = True) -> NodePlace:
    return NodePlace(name, Place(name, 5432), role, roles, is_up)


PRIMARY = node("p", "primary")
ONE, TWO = node("r1", "replica", "analytics"), node("r2", "replica")
DOWN = node("r3", "replica", "analytics", is_up=False)
ALL = (PRIMARY, ONE, TWO, DOWN)


def test_the_primary_alone_serves_what_is_for_the_primary() -> None:
    assert pick_nodes(ALL, "primary") == [PRIMARY]


def test_a_primary_that_does_not_answer_is_still_the_one_to_wait_for() -> None:
    down = node("p", "primary", is_up=False)
    assert pick_nodes((down, ONE), "primary") == [down]


def test_the_replicas_that_are_up_serve_what_is_for_replicas() -> None:
    assert pick_nodes(ALL, "replica") == [ONE, TWO]


def test_the_nodes_with_a_role_serve_what_is_for_it() -> None:
    assert pick_nodes(ALL, "analytics") == [ONE]


def test_without_a_node_for_the_target_the_primary_serves() -> None:
    assert pick_nodes((PRIMARY, DOWN), "replica") == [PRIMARY]
    assert pick_nodes((PRIMARY, DOWN), "analytics") == [PRIMARY]


def test_without_a_primary_nobody_serves_it() -> None:
    assert pick_nodes((ONE, TWO), "primary") == []
