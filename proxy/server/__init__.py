"""One connection to PostgreSQL: dial, log in, cancel."""

from proxy.server.cancel import send_cancel
from proxy.server.dial import Dialled, LoginRefused, NodeFull, Unreachable, dial
from proxy.server.place import Place

__all__ = ["Dialled", "LoginRefused", "NodeFull", "Place", "Unreachable", "dial", "send_cancel"]
