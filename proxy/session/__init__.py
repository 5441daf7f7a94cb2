"""What does this statement do to the session? Pure.

So far: the settings a session is in, and how to bring another server connection into them.
"""

from proxy.session.settings import FOLLOWED, Settings, SettingsBook
from proxy.session.startup import StartupSettings, read_startup_settings

__all__ = ["FOLLOWED", "Settings", "SettingsBook", "StartupSettings", "read_startup_settings"]
