"""Passwords of a cluster: made at random, and remembered where the data is kept."""

import json
import secrets
from pathlib import Path


class Passwords:
    """A password per role, the same one each time it is asked for.

    path: a file (mode 0600) that keeps them for the next start, or None to forget them.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, str] = (
            json.loads(path.read_text()) if path is not None and path.exists() else {}
        )

    def of(self, role: str) -> str:
        """Tell the password of `role`, made up at the first call; letters and digits only."""
        if role not in self._known:
            self._known[role] = secrets.token_hex(12)
            if self._path is not None:
                self._save(self._path)
        return self._known[role]

    def _save(self, path: Path) -> None:
        # Beside and then over: a crash between the two must not lose the superuser's password.
        beside = path.with_suffix(".new")
        beside.touch(mode=0o600)
        beside.write_text(json.dumps(self._known))
        beside.replace(path)
