"""One client and the door they come through: startup, login, cancel keys."""

from proxy.client.directory import Directory, Inquiry
from proxy.client.door import Beside, Console, Door
from proxy.client.judged import Judges
from proxy.client.keys import Keys
from proxy.client.listening import open_listeners, open_unix_listener
from proxy.client.startup import Startup, read_startup
from proxy.client.terms import DoorTerms, Habits

__all__ = [
    "Beside",
    "Console",
    "Directory",
    "Door",
    "DoorTerms",
    "Habits",
    "Inquiry",
    "Judges",
    "Keys",
    "Startup",
    "open_listeners",
    "open_unix_listener",
    "read_startup",
]
