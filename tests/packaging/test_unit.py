"""The units for systemd fit the program."""

import shlex
from configparser import ConfigParser
from pathlib import Path

from click.testing import CliRunner

from proxy.cli import main
from proxy.config import Config

DEPLOY = Path(__file__).parents[2] / "deploy"


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / name)
    return parser


def test_transactions_may_finish_before_systemd_loses_patience() -> None:
    limits = Config.model_fields["limits"].get_default(call_default_factory=True)
    assert int(unit("pgweir.service")["Service"]["TimeoutStopSec"]) > limits.shutdown_timeout


def test_the_command_of_the_unit_is_one(tmp_path: Path) -> None:
    program, *arguments = shlex.split(unit("pgweir.service")["Service"]["ExecStart"])
    assert Path(program).name == "pgweir"
    file = tmp_path / "pgweir.yaml"
    file.write_text("wrong: 1\n")
    told = CliRunner().invoke(main, [*arguments[:-1], str(file)])
    assert (told.exit_code, f"{file}:1: wrong: unknown key" in told.stderr) == (2, True)


def test_descriptors_suffice_for_the_clients_of_the_default() -> None:
    listen = Config.model_fields["listen"].get_default(call_default_factory=True)
    limit = int(unit("pgweir.service")["Service"]["LimitNOFILE"])
    assert limit > 2 * listen.max_client_conn


def test_the_socket_has_the_port_of_the_default() -> None:
    listen = Config.model_fields["listen"].get_default(call_default_factory=True)
    assert int(unit("pgweir.socket")["Socket"]["ListenStream"]) == listen.port
