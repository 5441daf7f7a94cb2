"""Every method that a rule may name is carried out by somebody."""

from proxy.auth.hba import METHODS
from proxy.client.proving import WAYS


def test_every_method_of_rules_is_carried_out() -> None:
    # Everybody, whatever they are called, is no method of a rule: it holds for all or for none.
    assert set(WAYS) - {"any"} | {"reject"} == set(METHODS)
