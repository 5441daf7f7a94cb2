"""Rules as the configuration and its files say them, and what cannot stand together."""

from pathlib import Path

import pytest

from proxy.auth import read_admission
from proxy.config import Config, ConfigError, parse

REST = """\
clusters: {main: {nodes: [{host: h}]}}
databases: {"*": {cluster: main}}
"""


def read(folder: Path, auth: str, more: str = "", **files: str) -> Config:
    for name, text in files.items():
        (folder / f"{name}.conf").write_text(text)
    return parse(f"auth: {auth}\n{more}{REST}", {}, folder=folder)


def faults(folder: Path, auth: str, more: str = "", **files: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_admission(read(folder, auth, more, **files))
    return [
        f"{Path(each.file or '').name}:{each.line} {each.text}" for each in caught.value.problems
    ]


HBA = "{method: hba, hba_file: hba.conf, ident_file: ident.conf, groups: {dev: [ann]}}"


def test_rules_maps_and_groups_come_from_the_files(tmp_path: Path) -> None:
    admission = read_admission(
        read(tmp_path, HBA, hba="local all +dev peer map=m\n", ident="m root ann\n")
    )
    [rule] = admission.rules
    assert rule.origin == f"{tmp_path}/hba.conf:1"
    assert admission.allows(rule, "root", "ann")
    assert not admission.allows(rule, "ann", "ann")


def test_a_method_without_rules_is_one_for_everybody(tmp_path: Path) -> None:
    admission = read_admission(read(tmp_path, "{method: md5}"))
    assert admission.rules.methods == {"md5"}


def test_every_wrong_line_is_told_at_once(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        HBA,
        hba="local all all trsut\nlocal all all peer map=n\nhostssl all all all md5 "
        "clientcert=verify-ca\n",
        ident="m root\nm root +ops\n",
    )
    assert [line.split(":")[0] + ":" + line.split(":")[1].split(" ")[0] for line in said] == [
        "hba.conf:1",
        "hba.conf:2",
        "hba.conf:3",
        "ident.conf:1",
        "ident.conf:2",
    ]


def test_a_rule_about_certificates_needs_authorities(tmp_path: Path) -> None:
    rule = "hostssl all all all md5 clientcert=verify-ca\n"
    assert faults(tmp_path, HBA, hba=rule, ident="") == [
        "hba.conf:1 nothing to check certificates against; name authorities under listen.tls.ca"
    ]
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text("")
    tls = "listen: {tls: {mode: allow, cert: cert, key: key, ca: ca}}\n"
    [read_rule] = read_admission(read(tmp_path, HBA, tls, hba=rule, ident="")).rules
    assert read_rule.certificate == "verify-ca"


def test_a_file_that_is_gone_by_now_is_told(tmp_path: Path) -> None:
    config = read(tmp_path, HBA, hba="local all all peer\n", ident="")
    (tmp_path / "hba.conf").unlink()
    with pytest.raises(ConfigError, match=r"hba.conf:1: \(rule\): cannot be read \(No such file"):
        read_admission(config)


def test_a_name_in_another_encoding_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "hba.conf").write_bytes(b"local all j\xf6rg trust\n")
    [rule] = read_admission(read(tmp_path, HBA, ident="")).rules
    assert rule.users.entries[0].text == "j\udcf6rg"


def test_a_rule_that_is_dead_without_tls_is_warned_of(tmp_path: Path) -> None:
    admission = read_admission(
        read(tmp_path, HBA, hba="\nhostssl all all all md5\nlocal all all peer\n", ident="")
    )
    assert admission.warnings == (
        f"{tmp_path}/hba.conf:2: (rule): hostssl never matches, because listen.tls.mode is disable",
    )
