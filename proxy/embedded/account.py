"""Whom PostgreSQL runs as.

PostgreSQL refuses to run as root, so root lends its servers an unprivileged account; a plain user
simply runs them. The questions asked here are about files and accounts, never about PostgreSQL.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.embedded.failure import EmbeddedError

# `postgres` exists wherever the distribution's PostgreSQL does; `nobody` everywhere else.
CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An account that PostgreSQL's processes and files belong to instead of root."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Find the account for PostgreSQL, or None when we are not root and need no other.

    Raises EmbeddedError when we are root and none of `CANDIDATES` exists.
    """
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is no account "
        f"{' or '.join(CANDIDATES)} to run it as: create one, or start as a plain user"
    )


def can_read(account: Account | None, path: Path) -> bool:
    """Whether `account` may read `path` and pass every folder above it, by mode bits.

    A folder, or a file somebody may execute, must be executable as well. Access control lists are
    not looked at: they are rare, and the worst outcome is a copy that was not needed. None (we run
    as ourselves) asks the kernel.
    """
    path = path.absolute()
    if account is None:
        return os.access(path, os.R_OK)
    try:
        steps = [(parent, 0o1) for parent in path.resolve().parents]
        mode = path.stat().st_mode
    except OSError:
        return False
    runs = stat.S_ISDIR(mode) or bool(mode & 0o111)
    return all(_allows(account, step, need) for step, need in [*steps, (path, 0o5 if runs else 4)])


def _allows(account: Account, path: Path, need: int) -> bool:
    entry = path.stat()
    mode = stat.S_IMODE(entry.st_mode)
    if entry.st_uid == account.uid:
        mode >>= 6
    elif entry.st_gid == account.gid:
        mode >>= 3
    return mode & need == need


def give(account: Account | None, paths: Iterable[Path]) -> None:
    """Make `paths`, and whatever lies below them, belong to `account`; nothing for None."""
    if account is None:
        return
    for path in paths:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.chown(Path(folder, name), account.uid, account.gid, follow_symlinks=False)


def credentials(account: Account | None) -> Mapping[str, object]:
    """Name the arguments of `subprocess.Popen` that make a child run as `account`."""
    if account is None:
        return {}
    groups = [group.gr_gid for group in grp.getgrall() if account.name in group.gr_mem]
    return {"user": account.uid, "group": account.gid, "extra_groups": [account.gid, *groups]}
