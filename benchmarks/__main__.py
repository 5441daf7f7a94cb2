"""The command line of `python -m benchmarks`."""

import argparse
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.cases import CASES, Case, choose
from benchmarks.children import Children
from benchmarks.failure import BenchmarkError
from benchmarks.files import raise_file_limit
from benchmarks.peers import PROXIES
from benchmarks.report import as_json, as_markdown, as_text, write_markdown
from benchmarks.rounds import Plan, run_cases

FULL = (1, 5)
QUICK = (1, 2)
"""Seconds for each turn, and rounds."""


class Interrupt:
    """End as after Ctrl-C, through every `finally`, so that no child outlives us.

    Where the signal finds Python in a place that lets no exception through (a fork's hooks, a
    finalizer), what it raised is lost: `check`, at the end of a turn, raises it again.
    """

    def __init__(self) -> None:
        self._came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if the signal came."""
        if self._came:
            raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; 0 when everything was measured, 1 when something failed.

    Whether targets were reached does not change the exit code: that is for a person to judge, and
    a busy machine can miss one. 130 after Ctrl-C, 2 for bad usage.
    """
    options = _parser().parse_args(arguments)
    # Also where a shell has put us into the background, and ignores it for us.
    interrupt = Interrupt()
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        cases = choose(CASES, _words(options.cases), quick=options.quick)
        plan = _plan(options)
    except ValueError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 2
    return _run(cases, plan, interrupt, options.json, options.markdown)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure pgweir beside PgBouncer and HAProxy.",
        epilog="cases: " + " ".join(case.name for case in CASES),
    )
    parser.add_argument("--quick", action="store_true", help="the main cases only, two rounds")
    parser.add_argument("--cases", default="", help="names, or their beginnings, with commas")
    parser.add_argument("--contestants", default=",".join(PROXIES), help="with commas")
    parser.add_argument("--seconds", type=int, help="length of a turn (whole seconds)")
    parser.add_argument("--rounds", type=int, help="turns of each contestant in a case")
    parser.add_argument("--json", type=Path, help="write every sample here")
    parser.add_argument(
        "--markdown",
        type=Path,
        help="write the tables here; a file with the two bench marks keeps the text around them",
    )
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _plan(options: argparse.Namespace) -> Plan:
    seconds, rounds = QUICK if options.quick else FULL
    contestants = tuple(_words(options.contestants))
    for name in contestants:
        if name not in PROXIES:
            raise ValueError(f"no contestant {name!r}; there are {', '.join(PROXIES)}")
    plan = Plan(contestants, options.seconds or seconds, options.rounds or rounds)
    if plan.seconds < 1 or plan.rounds < 1:
        raise ValueError("--seconds and --rounds are whole numbers from 1 on")
    return plan


def _run(
    cases: Sequence[Case],
    plan: Plan,
    interrupt: Interrupt,
    json_file: Path | None,
    markdown_file: Path | None,
) -> int:
    def say(step: str) -> None:
        sys.stderr.write(step + "\n")
        interrupt.check()

    raise_file_limit(resource.RLIM_INFINITY)
    try:
        with tempfile.TemporaryDirectory(prefix="pgweir-bench-") as name:
            folder = Path(name)
            # The proxies that do not run as root read their configuration in here.
            folder.chmod(0o755)
            with Children(folder) as children:
                results = run_cases(cases, plan, children, folder, say)
    except BenchmarkError as error:
        sys.stderr.write(f"\nbenchmarks: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nbenchmarks: stopped\n")
        return 130
    sys.stdout.write(as_text(results))
    if json_file is not None:
        json_file.write_text(as_json(results))
    if markdown_file is not None:
        write_markdown(markdown_file, as_markdown(results))
    return 1 if any(result.failures for result in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
