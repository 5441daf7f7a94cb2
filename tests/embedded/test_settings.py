"""What PostgreSQL is told."""

from pathlib import Path

from proxy.embedded.passwords import Passwords
from proxy.embedded.settings import Upstream, pg_hba, postgresql_conf, quote_setting


def conf(**changes):
    asked = {
        "name": "db1",
        "major": 18,
        "port": 15432,
        "socket_dir": None,
        "max_connections": 100,
        "replicas": 0,
        "upstream": None,
        "tls": False,
        "extra": {},
    }
    text = postgresql_conf(**{**asked, **changes})
    return dict(line.split(" = ", 1) for line in text.splitlines())


def test_a_primary_follows_nobody():
    assert "primary_conninfo" not in conf()


def test_a_replica_names_itself_to_its_primary():
    told = conf(upstream=Upstream(15432, "secret", "db2"))["primary_conninfo"]
    assert "application_name=db2" in told


def test_a_setting_of_the_caller_wins_over_ours():
    assert conf(extra={"fsync": "on"})["fsync"] == "'on'"


def test_a_version_is_not_told_of_settings_it_does_not_know():
    assert "io_method" not in conf(major=16)


def test_tls_is_off_unless_there_are_certificates():
    assert "ssl" not in conf()


def test_every_replica_can_be_copied_at_the_same_time():
    assert int(conf(replicas=30)["max_wal_senders"].strip("'")) >= 60


def test_apostrophes_and_backslashes_survive_the_configuration_file():
    assert quote_setting("a'b\\c") == "'a''b\\\\c'"


def test_lines_of_the_caller_come_before_ours_in_hba():
    assert pg_hba(["host all guest 127.0.0.1/32 trust"]).splitlines()[0].endswith("trust")


def test_passwords_are_the_same_at_the_next_start(tmp_path: Path):
    path = tmp_path / "passwords.json"
    assert Passwords(path).of("app") == Passwords(path).of("app")


def test_the_file_of_passwords_is_for_its_owner_alone(tmp_path: Path):
    path = tmp_path / "passwords.json"
    Passwords(path).of("app")
    assert path.stat().st_mode & 0o777 == 0o600


def test_passwords_without_a_file_differ_between_clusters():
    assert Passwords().of("app") != Passwords().of("app")
