"""Fuzz each target, in a process of its own: `python -m tests.fuzz --seconds 60`.

By atheris, which looks for new paths through what is Python; through what is compiled it sees none,
so those targets get bytes that hypothesis makes like what they expect. Each begins with what the
corpus keeps for it. What breaks an invariant is written to `crash-…` in the current folder and ends
the run with 1, as does what takes atheris more than ten seconds or a gigabyte (`timeout-…`,
`oom-…`): once it is understood, it belongs into the corpus.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import COMPILED, CORPUS


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process; atheris ends it."""
    import atheris

    # Instrumented while it is imported, so nothing of ours may be imported before.
    with atheris.instrument_imports(include=["proxy"]):
        from tests.fuzz.targets import TARGETS
    limits = [
        f"-max_total_time={seconds}",
        "-max_len=2048",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-verbosity=0",
    ]
    # The first folder is where it puts what it finds on its way.
    with tempfile.TemporaryDirectory() as found:
        atheris.Setup([sys.argv[0], *limits, found, str(CORPUS / name)], TARGETS[name])
        atheris.Fuzz()


def generate(name: str, seconds: float) -> None:
    """Give a target bytes like those it expects for so long, and a hundred at least."""
    from hypothesis import HealthCheck, given, settings

    from tests.fuzz.strategies import octets_for
    from tests.fuzz.targets import TARGETS

    kept = Path(f"crash-{name}")

    @settings(
        max_examples=100,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(octets_for(name))
    def check(octets: bytes) -> None:
        # Before: it may be the end of this process.
        kept.write_bytes(octets)
        TARGETS[name](octets)

    until = time.monotonic() + seconds
    check()
    while time.monotonic() < until:
        check()
    kept.unlink()


def main() -> int:
    """Fuzz all targets, or the one that is named; they share the time."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--seconds", type=int, default=60, help="for all targets together")
    options.add_argument("--target", help="this one alone")
    given = options.parse_args()
    if given.target in COMPILED:
        generate(given.target, given.seconds)
        return 0
    if given.target is not None:
        fuzz(given.target, given.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    each_s = max(1, given.seconds // len(TARGETS))
    failed = []
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", "--target", name, "--seconds", str(each_s)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'}", flush=True)
        if done.returncode:
            print(done.stdout[-4000:], done.stderr[-8000:])
            failed.append(name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
