"""How many files a process may have open; ten thousand clients need that many sockets."""

import contextlib
import resource


def raise_file_limit(wanted: int) -> int:
    """Raise the limit for us and the children to come, and return what was reached.

    wanted: descriptors; `RLIM_INFINITY` takes the hard limit as it is. Raising the hard limit is
    tried (root may) and not insisted on.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted != resource.RLIM_INFINITY and hard < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
            hard = wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
