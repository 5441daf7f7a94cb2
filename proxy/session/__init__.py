"""What does this statement do to the session? Pure.

So far: the settings a session is in, how to bring another server connection into them, and what a
transaction left of them, and what pins a client to its server connection.
"""

from proxy.session.pins import PINS
from proxy.session.settings import FOLLOWED, Settings, SettingsBook
from proxy.session.startup import StartupSettings, clean_application_name, read_startup_settings

__all__ = [
    "FOLLOWED",
    "PINS",
    "Settings",
    "SettingsBook",
    "StartupSettings",
    "clean_application_name",
    "read_startup_settings",
]
