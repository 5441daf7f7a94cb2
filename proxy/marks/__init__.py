"""What did others write under this key? Proxies that share a Redis tell each other.

A proxy that has seen something committed under a consistency key says so in Redis before its client
is told of the commit, and a proxy that is to send a read under a key to a replica asks there first.
So no read under a key is older than what was acknowledged under it, through whichever proxy. What
has no key costs nothing of this.

`session` is the conversation with Redis, of which the scripts are the facts; `marks` says what is
asked when, and what holds while nobody answers. Needs the extra `redis`: who uses this room looks
first, and imports it by its name.
"""

from proxy.marks.marks import Marks, Positions
from proxy.marks.session import RedisTerms

__all__ = ["Marks", "Positions", "RedisTerms"]
