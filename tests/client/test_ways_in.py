"""Every method that a rule may name is carried out, or refused when the rules are read."""

from proxy.auth.admission import NOT_YET
from proxy.auth.hba import METHODS
from proxy.client.proving import WAYS


def test_every_method_of_rules_has_its_way() -> None:
    assert set(WAYS) | {"reject"} | set(NOT_YET) == set(METHODS)
    assert set(WAYS).isdisjoint(NOT_YET)
