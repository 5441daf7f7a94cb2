"""Fuzz each target with atheris, in a process of its own: `python -m tests.fuzz --seconds 60`.

Each begins with what the corpus keeps for it. What breaks an invariant, takes more than ten seconds
or a gigabyte is written to `crash-…` (`timeout-…`, `oom-…`) in the current folder and ends the run
with 1: once it is understood, it belongs into the corpus.
"""

import argparse
import subprocess
import sys
import tempfile

from tests.fuzz import CORPUS


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


def main() -> int:
    """Fuzz all targets, or the one that is named; they share the time."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--seconds", type=int, default=60, help="for all targets together")
    options.add_argument("--target", help="this one alone")
    given = options.parse_args()
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
