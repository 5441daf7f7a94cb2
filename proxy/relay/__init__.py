"""The data plane: links, clients, servers and pools, compiled, over one epoll descriptor.

Five nouns. A `Link` is one socket end; `Client` and `Server` are the two kinds of it. A `Pool` has
the server connections to one node for one database and user. A `Line` is where the clients of one
database and user wait for them, in order. The `Relay` owns the epoll descriptor and moves bytes.

A login, on either side, is a coroutine that reads whole messages from a link with the functions of
`conversation`; `enter` then hands the link over, and Python is out of its way. What the relay asks
of the control plane is `Control`, and nothing else.
"""

from proxy.relay.control import About, Control, Leaves
from proxy.relay.conversation import next_bytes, next_message, next_packet
from proxy.relay.relay import (
    REASONS,
    Client,
    Decision,
    Decisions,
    Ended,
    Histogram,
    Horizon,
    Line,
    Link,
    Pool,
    Relay,
    Router,
    Server,
    Suspects,
    WriteTimes,
)

SESSION_MODE = 1
TRANSACTION_MODE = 2
STATEMENT_MODE = 3

RESETS_SMARTLY = 0
RESETS_ALWAYS = 1
RESETS_NEVER = 2

__all__ = [
    "REASONS",
    "RESETS_ALWAYS",
    "RESETS_NEVER",
    "RESETS_SMARTLY",
    "SESSION_MODE",
    "STATEMENT_MODE",
    "TRANSACTION_MODE",
    "About",
    "Client",
    "Control",
    "Decision",
    "Decisions",
    "Ended",
    "Histogram",
    "Horizon",
    "Leaves",
    "Line",
    "Link",
    "Pool",
    "Relay",
    "Router",
    "Server",
    "Suspects",
    "WriteTimes",
    "next_bytes",
    "next_message",
    "next_packet",
]
