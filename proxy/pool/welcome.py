"""What a client is told at the end of its login: the server's parameters, before it has a server.

Known from the first server connection of its pool. A client that asks for settings of its own is
told what a server makes of them: one is dialled with exactly those, once per combination.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.session import Settings
from proxy.wire import messages


@dataclass(frozen=True, slots=True, eq=False)
class Welcome:
    """The ParameterStatus messages for one combination of settings, and the settings themselves.

    parameters: all that is reported. settings: what the client's server connections will be in.
    packet: the messages, ready to be sent.
    """

    parameters: Mapping[str, str]
    settings: Settings
    packet: bytes


def write_welcome(parameters: Mapping[str, str], settings: Settings) -> Welcome:
    """Make the Welcome for these reported parameters."""
    packet = b"".join(messages.parameter_status(name, value) for name, value in parameters.items())
    return Welcome(parameters, settings, packet)
