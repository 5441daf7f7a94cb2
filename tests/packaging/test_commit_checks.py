"""What is checked before a commit: pre-commit takes it, and the programs are there."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CHECKS = ROOT / ".pre-commit-config.yaml"


def test_pre_commit_takes_the_configuration() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", CHECKS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_check_is_a_program_that_is_installed_with_the_tests() -> None:
    checks = [
        hook["entry"].split()[0]
        for repository in yaml.safe_load(CHECKS.read_text("utf-8"))["repos"]
        for hook in repository["hooks"]
    ]
    assert checks
    assert {str(Path(check).parent) for check in checks} == {".venv/bin"}
    programs = Path(sys.executable).parent
    assert [check for check in checks if not (programs / Path(check).name).exists()] == []
