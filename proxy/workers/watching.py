"""Have the files changed that the configuration is made from? For `process.watch`."""

from collections.abc import Callable, Iterable
from pathlib import Path

from proxy.config import Config, ConfigError, files_of
from proxy.watch import Watch


class Watching:
    """All of them: the configuration file, those it includes, and those it names.

    refused: tells of more, those of a configuration that was refused: it may be mended there.
    """

    def __init__(self, config: Config, refused: Callable[[], Iterable[Path]]) -> None:
        self._refused = refused
        self._config = config
        self._files = files_of(config)
        self._watch = Watch(self._files)

    def has_changed(self, config: Config) -> bool:
        """Whether some have, once they have come to rest; each change is told of once.

        config: in force now; which files there are, it may say otherwise than the one before.
        """
        if config is not self._config:
            self._config, self._files = config, files_of(config)
        files = tuple(dict.fromkeys([*self._files, *self._refused()]))
        if files != self._watch.files:
            self._watch.follow(files)
        if not self._watch.has_changed():
            return False
        self._watch.settle()
        return True


def files_of_refused(config: Config | None, wrong: Exception) -> tuple[Path, ...]:
    """The files of a configuration that was refused. config: None where not even that was read."""
    if config is not None:
        return tuple(files_of(config))
    return wrong.files if isinstance(wrong, ConfigError) else ()
