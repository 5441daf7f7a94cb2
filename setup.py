"""Build the compiled rooms: `wire/` and `relay/`.

Everything else about the project is declared in pyproject.toml. This file exists because the
extension modules are compiled against asyncpg's `.pxd` files and because a machine that lacks a
compiler or Python's headers deserves one clear line instead of a traceback.
"""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

COMPILED = ("proxy/wire/messages.pyx", "proxy/relay/relay.pyx")


def _refuse(reason: str) -> None:
    """End the build with one line that says what is missing and how to get it."""
    sys.stderr.write(f"\npgweir: {reason}\n\n")
    raise SystemExit(1)


def _check_machine() -> None:
    if sys.platform != "linux":
        _refuse("only Linux is supported: the relay is built on epoll.")
    if sys.version_info < (3, 11):
        _refuse(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}.")
    compiler = os.environ.get("CC") or (sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler.split()[0]) is None and shutil.which("cc") is None:
        _refuse(f"no C compiler found (tried {compiler!r}): on Debian, apt-get install gcc.")
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not header.exists():
        _refuse(f"{header} is missing: on Debian, apt-get install python3-dev libc6-dev.")


def _extensions() -> list[Extension]:
    from Cython.Build import cythonize  # noqa: PLC0415 -- only once the machine is known to be able

    # PGWEIR_DEBUG=1 builds with bounds checks and assertions; the whole suite passes under it too.
    debug = os.environ.get("PGWEIR_DEBUG") == "1"
    flags = ["-O0", "-g", "-UNDEBUG"] if debug else ["-O2", "-g0"]
    return cythonize(
        [
            Extension(
                path.removesuffix(".pyx").replace("/", "."),
                [path],
                extra_compile_args=[*flags, "-Wno-unused-function"],
            )
            for path in COMPILED
        ],
        compiler_directives={
            "language_level": "3",
            "boundscheck": debug,
            "wraparound": False,
            "initializedcheck": debug,
            "cdivision": True,
            "embedsignature": True,
            "freethreading_compatible": False,
        },
        force=debug,
    )


_check_machine()
setup(ext_modules=_extensions())
