"""The programs in C beside this file, compiled when they are first needed."""

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.failure import BenchmarkError

_HERE = Path(__file__).parent
_BUILD = _HERE.parent / "build" / "benchmarks"


def compiled(name: str) -> Path:
    """Give the program made from NAME.c, compiling it when that is newer.

    Raises BenchmarkError without a C compiler, or when it refuses the source.
    """
    source, program = _HERE / f"{name}.c", _BUILD / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler.split()[0]) is None:
        raise BenchmarkError(
            f"no C compiler ({compiler}): on Debian, apt-get install gcc libc6-dev"
        )
    _BUILD.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")
    made = subprocess.run(
        [*compiler.split(), "-O2", "-Wall", "-Wextra", "-o", fresh, source],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise BenchmarkError(f"{source.name} does not compile:\n{made.stderr.strip()}")
    fresh.rename(program)
    return program
