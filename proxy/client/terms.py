"""On which terms clients come in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.auth import Admission, Roster
from proxy.client.address import IpNetwork
from proxy.client.directory import Directory
from proxy.client.judged import Judges
from proxy.session import StartupSettings, clean_application_name, read_startup_settings
from proxy.tls import Offer, Renewed


@dataclass(frozen=True, slots=True)
class Habits:
    """What becomes of the settings that a client's startup packet asks for.

    ignored: those left out, in lower case. adds_host: whether application_name gets the address.
    """

    ignored: frozenset[str] = frozenset()
    adds_host: bool = False

    def wanted(self, parameters: Mapping[str, str], address: str) -> StartupSettings:
        """The settings that are to be followed. address: the client's. Raises ClientError."""
        if not self.ignored and not self.adds_host:
            return read_startup_settings(parameters)
        if "options" in self.ignored:
            parameters = {name: each for name, each in parameters.items() if name != "options"}
        asked = read_startup_settings(parameters)
        name = asked.application_name
        if self.adds_host:
            # PgBouncer's words for it.
            name = clean_application_name(f"{name or 'app'} - {address}")
        elif "application_name" in self.ignored:
            name = None
        others = {
            setting: value
            for setting, value in asked.others.items()
            if setting.lower() not in self.ignored
        }
        return StartupSettings(name, others)


@dataclass(frozen=True, slots=True)
class DoorTerms:
    """On which terms clients come in.

    admission: by which method who may. roster: the users that are listed.
    judges: who is asked where logins are judged elsewhere.
    directory: where users that the roster does not have are looked up, by cluster, or None.
    cluster_of: the cluster a database of this name is in.
    tls: what clients are offered, None for no TLS.
    tls_required: refuse those without it. login_timeout_s: for the whole login, 0 is no limit.
    balancers: whose connections begin with a PROXY header.
    max_strangers: connections whose clients have not yet proved who they are.
    failure_delay_s: longest delay of a failed login's refusal, 0 is none.
    habits: what becomes of the settings a client comes with.
    """

    admission: Admission
    roster: Roster
    max_clients: int
    login_timeout_s: float
    tls: Renewed[Offer] | None
    tls_required: bool
    balancers: tuple[IpNetwork, ...]
    max_strangers: int
    failure_delay_s: float
    judges: Judges
    directory: Directory | None = None
    cluster_of: Callable[[str], str] = str
    habits: Habits = Habits()
