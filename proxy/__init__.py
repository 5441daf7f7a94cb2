"""pgweir: a PostgreSQL proxy.

Two planes. The data plane (`wire`, `relay`) is compiled and touches every message; the control
plane is Python on asyncio and is asked once per connection, per new statement text and per change
of state. Each folder is a room that answers one question; its `__init__` says which.
"""

__version__ = "0.1.0"
