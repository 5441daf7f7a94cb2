"""Have the files changed that the configuration is made from? For `process.watch`."""

from proxy.config import Config, files_of
from proxy.watch import Watch


class Watching:
    """All of them: the configuration file, those it includes, and those it names."""

    def __init__(self, config: Config) -> None:
        self._watch = Watch(files_of(config))

    def has_changed(self, config: Config) -> bool:
        """Whether some have, once they have come to rest; each change is told of once.

        config: in force now; which files there are, it may say otherwise than the one before.
        """
        files = tuple(files_of(config))
        if files != self._watch.files:
            self._watch = Watch(files)
        if not self._watch.has_changed():
            return False
        self._watch.settle()
        return True
