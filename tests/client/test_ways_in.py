"""Every method that a rule may name is carried out by somebody."""

from proxy.auth.hba import METHODS
from proxy.client.proving import WAYS


def test_every_method_of_rules_is_carried_out() -> None:
    assert set(WAYS) | {"reject"} == set(METHODS)
