"""One connection to PostgreSQL: dial, log in, cancel."""

from proxy.server.cancel import send_cancel
from proxy.server.dial import Dialled, LoginRefused, NodeFull, Unreachable, dial
from proxy.server.passwords import AskedPassword, Passwords, PasswordUnavailable
from proxy.server.place import Place

__all__ = [
    "AskedPassword",
    "Dialled",
    "LoginRefused",
    "NodeFull",
    "PasswordUnavailable",
    "Passwords",
    "Place",
    "Unreachable",
    "dial",
    "send_cancel",
]
