"""Logins that PAM judges, by real services in /etc/pam.d."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.auth import read_admission
from proxy.config import ConfigError, parse
from tests.fixtures.missing import do_without
from tests.fixtures.pgweir import Pgweir, configuration
from tests.fixtures.postgres import APP, Postgres
from tests.live.test_login import connect, refusal

StartPgweir = Callable[..., Pgweir]
MakeService = Callable[[str], str]

PERMIT = "account required pam_permit.so\n"
CHECK = """\
#!/bin/sh
password=$(tr -d '\\0')
[ "$PAM_USER:$password" = "%s:%s" ] && [ "$PAM_SERVICE" = "%s" ]
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[MakeService]:
    """Make services of PAM: `service("auth required …")` gives the name."""
    folder = Path("/etc/pam.d")
    if os.geteuid() != 0 or not folder.is_dir():
        reason = "services of PAM can be made by root alone, in /etc/pam.d"
        do_without(reason)
    pytest.importorskip("pam", reason="pip install pgweir[pam]")
    made: list[Path] = []

    def make(lines: str) -> str:
        name = f"pgweir-test-{os.getpid()}-{len(made)}"
        made.append(folder / name)
        made[-1].write_text(lines.replace("%SERVICE", name))
        return name

    yield make
    for each in made:
        each.unlink()


def judged(node: Postgres, service: str, **pam: Any) -> dict[str, Any]:
    """A configuration in which no user is listed."""
    config = configuration(node)
    config["auth"] = {"method": "pam", "pam": {"pamservice": service, **pam}}
    return config


def test_the_password_that_pam_accepts_opens_the_server_too(
    start_pgweir: StartPgweir, pg18: Postgres, service: MakeService, tmp_path: Path
) -> None:
    script = tmp_path / "check"
    name = service(f"auth required pam_exec.so quiet expose_authtok {script}\n{PERMIT}")
    script.write_text(CHECK % (APP.name, APP.password, name))
    script.chmod(0o755)
    weir = start_pgweir(judged(pg18, name))
    assert connect(weir) == APP.name
    for user, password in ((APP.name, "wrong"), ("nobody", APP.password)):
        seen = len(weir.log)
        assert f'PAM authentication failed for user "{user}"' in refusal(weir, password, user)
        weir.wait_for_log("login refused.*PAM refuses", since=seen)
    everything = "\n".join((*weir.log, weir.http("/metrics")[1]))
    assert APP.password not in everything


def test_an_account_that_is_closed_does_not_come_in_by_its_password(
    start_pgweir: StartPgweir, pg18: Postgres, service: MakeService
) -> None:
    name = service("auth required pam_permit.so\naccount required pam_deny.so\n")
    assert "PAM authentication failed" in refusal(start_pgweir(judged(pg18, name)), APP.password)


def test_a_service_that_is_not_there_is_refused_when_the_file_is_read(tmp_path: Path) -> None:
    """PAM would take `other`, by which every account of the machine may come in."""
    pytest.importorskip("pam", reason="pip install pgweir[pam]")
    (tmp_path / "hba.conf").write_text("host all all all pam pamservice=pgweir-not-there\n")
    base = "clusters: {main: {nodes: [{host: h}]}}\ndatabases: {'*': {cluster: main}}\nauth:\n"
    with pytest.raises(ConfigError, match=r"pamservice: PAM has no service 'pgweir-not-there'"):
        parse(base + "  method: pam\n  pam: {pamservice: pgweir-not-there}\n", {})
    rules = parse(base + "  method: hba\n  hba_file: hba.conf\n", {}, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"hba.conf:1: .*no service 'pgweir-not-there'"):
        read_admission(rules)


def test_a_rule_names_its_service_and_one_that_hangs_holds_up_nobody_else(
    start_pgweir: StartPgweir, pg18: Postgres, service: MakeService, tmp_path: Path
) -> None:
    script = tmp_path / "hang"
    script.write_text("#!/bin/sh\nexec sleep 30\n")
    script.chmod(0o755)
    hanging = service(f"auth required pam_exec.so quiet {script}\n{PERMIT}")
    permitting = service(f"auth required pam_permit.so\n{PERMIT}")
    rules = f"host all app all pam pamservice={permitting}\nhost all all all pam\n"
    (tmp_path / "hba.conf").write_text(rules)
    config = judged(pg18, hanging, timeout="300ms")
    config["auth"] |= {"method": "hba", "hba_file": str(tmp_path / "hba.conf")}
    weir = start_pgweir(config)
    assert "cannot be judged" in refusal(weir, "any", "ann")
    assert "no answer in time" in weir.wait_for_log("a login cannot be judged")
    assert connect(weir) == APP.name
