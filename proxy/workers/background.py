"""Going into the background, and becoming somebody else: before the loop, and once."""

# Looking up a host loads it, and Python's own files may be root's alone.
import encodings.idna  # noqa: F401
import os
import pwd
import sys
from collections.abc import Callable

_READY = b"1"


def become(user: str) -> None:
    """Go over to an account, for good. Raises OSError when there is none, or we may not."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise OSError(
            f"there is no account {user!r}; name another with -u or process.user"
        ) from None
    if os.geteuid() == account.pw_uid:
        return
    if os.geteuid() != 0:
        raise OSError(f"only root can become {user!r}; start as root, or as {user!r}")
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def let_go_of_terminal() -> None:
    """Neither read from it nor write to it any more: who waits for its end need not wait for us."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)


def detach() -> Callable[[], None]:
    """Go on in the background; whoever started us waits until we serve, and ends.

    Returns in the process that goes on, with what it is to call once it serves: then the terminal
    is let go. Until then it can still say what is wrong. The one that waits ends with 0, or with 1
    when we end before that. Call it while there is one thread and no loop.
    """
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(write_end)
        os._exit(0 if os.read(read_end, 1) == _READY else 1)
    os.close(read_end)
    os.setsid()
    if os.fork():
        # The terminal can never be given to who does not lead the session.
        os._exit(0)

    def serves() -> None:
        let_go_of_terminal()
        os.write(write_end, _READY)
        os.close(write_end)

    return serves
