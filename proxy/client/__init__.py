"""One client and the door they come through: startup, login, cancel keys."""

from proxy.client.directory import Directory, Inquiry
from proxy.client.door import Console, Door
from proxy.client.judged import Judges
from proxy.client.keys import Keys
from proxy.client.startup import Startup, read_startup
from proxy.client.terms import DoorTerms, Habits

__all__ = [
    "Console",
    "Directory",
    "Door",
    "DoorTerms",
    "Habits",
    "Inquiry",
    "Judges",
    "Keys",
    "Startup",
    "read_startup",
]
