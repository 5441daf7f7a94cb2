"""What a client's startup packet says, checked.

Source: PostgreSQL documentation, "Message Flow" (Start-up) and StartupMessage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from proxy.errors import ClientError
from proxy.tls import TlsFacts
from proxy.wire import messages

# 3.1 never was; 3.2 came with PostgreSQL 18.
_NEWEST_MINOR = 2
# Packets that are remembered, 10,000 bytes each at most: clients of an application say the same.
_MOST_REMEMBERED = 128


@dataclass(frozen=True, slots=True)
class Startup:
    """A client's first words.

    minor: of the protocol version we speak with it, 0 or 2.
    unsupported: `_pq_.` options it asked for and we do not know.
    negotiate: it must be told of the version or of those options.
    tls: what its handshake said, the certificate it showed among it; None without TLS.
    """

    user: str
    database: str
    parameters: Mapping[str, str]
    minor: int
    unsupported: tuple[str, ...]
    negotiate: bool
    tls: TlsFacts | None = None

    @property
    def wants_replication(self) -> bool:
        """A connection for replication, physical or logical."""
        asked = self.parameters.get("replication")
        return asked is not None and asked.lower() not in ("false", "off", "no", "0", "")

    @property
    def replicates_physically(self) -> bool:
        """A connection for physical replication: it has no database."""
        return self.wants_replication and self.parameters["replication"].lower() != "database"


@lru_cache(_MOST_REMEMBERED)
def read_startup(version: int, packet: bytes, tls: TlsFacts | None = None) -> Startup:
    """Read a StartupMessage. version: its first number. packet: all after its length.

    tls: what the handshake before it said.

    Raises PeerError when it is malformed, ClientError when it asks for what there is not.
    """
    major, minor = version >> 16, version & 0xFFFF
    if major != 3:
        raise ClientError(
            "0A000",
            f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2",
        )
    parameters = messages.read_startup_parameters(packet)
    user = parameters.get("user", "")
    if not user:
        raise ClientError("28000", "no PostgreSQL user name specified in startup packet")
    spoken = _NEWEST_MINOR if minor >= _NEWEST_MINOR else 0
    unsupported = tuple(name for name in parameters if name.startswith("_pq_."))
    return Startup(
        user=user,
        database=parameters.get("database") or user,
        parameters=MappingProxyType(parameters),
        minor=spoken,
        unsupported=unsupported,
        negotiate=minor != spoken or bool(unsupported),
        tls=tls,
    )
