"""The operator's rules: which of them may hold for the statements of a session? Pure."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.config import Route


@dataclass(frozen=True, slots=True)
class Session:
    """Who sends statements. address: as the relay writes it, such as `10.0.0.1:5555` or `unix:`."""

    database: str
    user: str
    application_name: str
    address: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One route of the configuration, made ready. name: as it is called in errors and logs."""

    name: str
    route: Route
    pattern: re.Pattern[str] | None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None

    def holds_for(self, session: Session) -> bool:
        """Whether it may hold for some statement of this session."""
        match = self.route.match
        if not match.may_match(session.database, session.user):
            return False
        if match.application_name not in (None, session.application_name):
            return False
        return match.address is None or self._is_from(session.address)

    def _is_from(self, address: str) -> bool:
        host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
        if host == "unix" or address.startswith("unix"):
            return self.route.match.address == "unix"
        if self.network is None:
            return False
        try:
            return ipaddress.ip_address(host) in self.network
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Applying:
    """The rules that may hold for a session, in their order.

    Equal ones of two sessions mean that they are routed alike.
    """

    rules: tuple[Rule, ...]

    @property
    def looks(self) -> bool:
        """Whether some rule looks at statements to say where they go."""
        return any(each.route.match.is_by_statement for each in self.rules)

    @property
    def by_text(self) -> bool:
        """Whether constants and comments matter to some rule."""
        return any(each.pattern is not None for each in self.rules)

    @property
    def guards(self) -> bool:
        """Whether some rule is about statements wherever they run."""
        return any(each.route.acts_on_statements for each in self.rules)

    @property
    def target(self) -> str | None:
        """Where the first rule that looks at no statement sends them all, or None."""
        for each in self.rules:
            if each.route.to is not None and not each.route.match.is_by_statement:
                return each.route.to
        return None


def read_rules(routes: Sequence[Route]) -> tuple[Rule, ...]:
    """Make the routes of a configuration ready."""
    return tuple(
        Rule(
            route.name or f"routes[{index}]",
            route,
            None if route.match.query is None else re.compile(route.match.query, re.IGNORECASE),
            None
            if route.match.address in (None, "unix")
            else ipaddress.ip_network(route.match.address, strict=False),
        )
        for index, route in enumerate(routes)
    )


def rules_for(rules: Sequence[Rule], session: Session) -> Applying:
    """Keep those that may hold for a session."""
    return Applying(tuple(rule for rule in rules if rule.holds_for(session)))
