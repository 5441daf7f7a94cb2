"""Who listens to which channel, and what has been heard?

In transaction mode a client has no session in which a LISTEN would last. So the proxy listens in
its stead: one connection, an `Ear`, for each database that somebody listens in. `Subscriptions`
(pure) knows who is to hear what, and the `Hub` brings it to them.
"""

from proxy.channels.hub import Hub, Place

__all__ = ["Hub", "Place"]
