"""Where should this statement go? Rules, the verdict on a text, and which replicas are fit. Pure.

`rules_for` keeps of the operator's rules those that may hold for a session; `decide` says what is
to be known of one text under them; `Rotation` says which replicas may answer. Whoever asks knows
the clients, the nodes and the time. How fresh a replica has to be for a session is for the relay to
know, in `relay/freshness.pxi`, since that is asked for each statement.
"""

from proxy.routing.deciding import Choice, decide, fingerprint_of, may_change
from proxy.routing.rotation import Rotation, Standing
from proxy.routing.rules import Applying, Rule, Session, read_rules, rules_for

__all__ = [
    "Applying",
    "Choice",
    "Rotation",
    "Rule",
    "Session",
    "Standing",
    "decide",
    "fingerprint_of",
    "may_change",
    "read_rules",
    "rules_for",
]
