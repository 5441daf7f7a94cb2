"""Can this machine build pgweir? Answers in one line what is missing and how to get it.

Asked by setup.py, and by the Makefile before it calls pip, whose own output would bury the answer:
`python machine.py` prints nothing when all is there; `--venv` asks for the venv module as well.
It has to run on any Python 3 that somebody may have, so that it can say that it is too old: nothing
in here is newer than Python 3.6.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

OLDEST = (3, 11)


def what_is_missing(with_venv: bool = False) -> str:
    """Say what stands in the way of a build, in one line; "" when nothing does.

    with_venv: a virtual environment is to be made, too.
    """
    if sys.platform != "linux":
        return "only Linux is supported: the relay is built on epoll."
    if sys.version_info < OLDEST:
        return (
            "Python {}.{} or newer is needed, and {} is {}: install one and name it, as in "
            "`make PYTHON=python3.12`."
        ).format(*OLDEST, sys.executable, sys.version.split()[0])
    if with_venv and not (importlib.util.find_spec("venv") and _has_pip_to_give()):
        return "Python's venv module is missing: on Debian, apt-get install python3-venv."
    compiler = find_compiler()
    if not compiler:
        return f"no C compiler found (tried {_configured()!r}): on Debian, apt-get install gcc."
    return what_headers_lack(compiler, Path(sysconfig.get_paths()["include"]))


def find_compiler() -> str:
    """Give the command of a C compiler, with its flags: $CC, Python's own, or cc; "" for none."""
    for command in (_configured(), "cc"):
        if shutil.which(command.split()[0]):
            return command
    return ""


def _configured() -> str:
    return os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"


def _has_pip_to_give() -> bool:
    """Debian keeps ensurepip, which venv needs, in a package of its own."""
    return importlib.util.find_spec("ensurepip") is not None


def what_headers_lack(compiler: str, include: Path) -> str:
    """Say why the compiler cannot use Python's headers in this folder; "" when it can."""
    header = include / "Python.h"
    if not header.exists():
        return f"{header} is missing: on Debian, apt-get install python3-dev."
    asked = [*compiler.split(), "-E", "-I", str(include), "-x", "c", "-"]
    done = subprocess.run(  # noqa: S603 -- the compiler that will build us
        asked,
        check=False,
        input=b"#include <Python.h>\n",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        return (
            f"{compiler} cannot use Python's headers ({said[0]}): on Debian, "
            "apt-get install libc6-dev."
        )
    return ""


if __name__ == "__main__":
    missing = what_is_missing(with_venv="--venv" in sys.argv[1:])
    if missing:
        sys.stdout.write(missing + "\n")
        sys.exit(1)
