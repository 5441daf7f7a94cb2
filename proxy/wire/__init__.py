"""What bytes are these? Framing and messages of the PostgreSQL protocol, compiled and pure.

`kinds.pxd` names the messages, `frames.pxd` reads their lengths, `messages` authors those that the
proxy sends of its own and reads the small ones it must understand.
"""

from proxy.wire import messages

__all__ = ["messages"]
