"""Build what is compiled: `wire/`, `relay/` and the lexer in `sql/`.

Everything else about the project is declared in pyproject.toml. This file exists because the
extension modules are compiled against asyncpg's `.pxd` files and because a machine that lacks a
compiler or Python's headers deserves one clear line instead of a traceback.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
# A build backend runs this file without the folder it is in on sys.path.
sys.path.insert(0, str(HERE))

from machine import find_compiler, what_is_missing  # noqa: E402

COMPILED = ("proxy/wire/messages.pyx", "proxy/relay/relay.pyx", "proxy/sql/lexer.pyx")


def _require_machine() -> None:
    """End the build with one line when something is missing; choose a compiler that exists."""
    if missing := what_is_missing():
        sys.stderr.write(f"\npgweir: {missing}\n\n")
        raise SystemExit(1)
    os.environ.setdefault("CC", find_compiler())


def _is_new_recipe(recipe: str) -> bool:
    """Was the last build in this tree made in another way? Then what it left must be made anew.

    A file tells, since neither Cython nor setuptools looks at anything but the age of sources.
    """
    kept = HERE / "build" / "recipe"
    if kept.exists() and kept.read_text("utf-8") == recipe:
        return False
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(recipe, "utf-8")
    return True


def _extensions() -> list[Extension]:
    # Only once the machine is known to be able.
    import asyncpg  # noqa: PLC0415
    import Cython  # noqa: PLC0415
    from Cython.Build import cythonize  # noqa: PLC0415

    # PGWEIR_DEBUG=1 builds with bounds checks and assertions; the whole suite passes under it too.
    debug = os.environ.get("PGWEIR_DEBUG") == "1"
    flags = ["-O0", "-g", "-UNDEBUG"] if debug else ["-O2", "-g0"]
    directives = {
        "language_level": "3",
        "boundscheck": debug,
        "wraparound": False,
        "initializedcheck": debug,
        "cdivision": True,
        "embedsignature": True,
        "freethreading_compatible": False,
    }
    recipe = f"Cython {Cython.__version__}, asyncpg {asyncpg.__version__}, {flags}, {directives}\n"
    return cythonize(
        [
            Extension(
                path.removesuffix(".pyx").replace("/", "."),
                [path],
                extra_compile_args=[*flags, "-Wno-unused-function"],
            )
            for path in COMPILED
        ],
        compiler_directives=directives,
        force=_is_new_recipe(recipe),
    )


_require_machine()
setup(ext_modules=_extensions())
