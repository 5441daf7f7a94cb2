"""Commands of the operator's: told the facts, limited in time, reported when they fail."""

import sys
from pathlib import Path

from proxy.failover.hooks import run_hook


async def test_a_hook_learns_the_facts_from_its_environment(tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = ["sh", "-c", f'echo "$PGWEIR_PRIMARY" > {told}']
    assert await run_hook(command, {"PGWEIR_PRIMARY": "db2"}, 10.0) is None
    assert told.read_text() == "db2\n"


async def test_a_hook_that_fails_is_reported_with_its_last_words() -> None:
    reason = await run_hook(["sh", "-c", "echo not today >&2; exit 3"], {}, 10.0)
    assert reason == "ended with 3: not today"


async def test_a_hook_that_cannot_be_started_is_reported() -> None:
    assert await run_hook(["/no/such/program"], {}, 10.0) == (
        "could not be started: No such file or directory"
    )


async def test_a_hook_that_takes_too_long_is_ended() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert await run_hook(command, {}, 0.2) == (
        "was ended, as it took longer than hook_timeout (0.2 s)"
    )


async def test_what_a_hook_leaves_running_does_not_hold_it_up() -> None:
    assert await run_hook(["sh", "-c", "sleep 5 & exit 0"], {}, 3.0) is None
