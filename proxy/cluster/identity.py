"""Which PostgreSQL cluster is this? A vote on the system identifier, so that a stranger is refused.

`initdb` gives each cluster a random 64-bit identifier and streaming replicas inherit it; a node
with another one holds other data, however well it answers. Pure; called by `judge`.
"""

from collections import Counter
from collections.abc import Sequence


def settle_identity(
    identifiers: Sequence[int | None], known: int | None, settled: bool
) -> tuple[int | None, bool]:
    """Return the cluster's system identifier and whether it is settled.

    identifiers: the last one each declared node told (None: never told), in the order declared.
    known, settled: the previous result.

    The first one told counts until more nodes tell another. Once more than half of the declared
    nodes agreed it is settled, and then a majority of newcomers cannot move it: only a cluster
    where nobody has the old one any more (pg_upgrade and initdb make a new one) is believed to
    be a new cluster.
    """
    votes = Counter(identifier for identifier in identifiers if identifier is not None)
    if not votes:
        return known, settled
    most = max(votes.values())
    if known is not None and known in votes and (settled or votes[known] == most):
        chosen = known
    elif settled and None in identifiers:
        return known, settled
    else:
        # Counter keeps the order of first appearance: on a tie the node declared first decides.
        chosen = next(identifier for identifier, count in votes.items() if count == most)
        settled = False
    return chosen, settled or votes[chosen] * 2 > len(identifiers)
