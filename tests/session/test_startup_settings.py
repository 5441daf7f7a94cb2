"""What a startup packet asks of a session."""

import pytest

from proxy.errors import ClientError
from proxy.session import read_startup_settings


def settings_of(options: str) -> dict[str, str]:
    return dict(read_startup_settings({"user": "u", "options": options}).others)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {}),
        ("   ", {}),
        ("-c a=1", {"a": "1"}),
        ("-ca=1", {"a": "1"}),
        ("--a=1", {"a": "1"}),
        ("--work-mem=7MB", {"work_mem": "7MB"}),
        ("-c a=1 -c b=2", {"a": "1", "b": "2"}),
        ("-c a=1 -c a=2", {"a": "2"}),
        ("-c a=", {"a": ""}),
        ("-c a=b=c", {"a": "b=c"}),
        ("-c a=b\\ c", {"a": "b c"}),
        ("-c a=b\\\\c", {"a": "b\\c"}),
        ("\t-c\na=1\n", {"a": "1"}),
        ("-c my.own=1", {"my.own": "1"}),
        ("-c timezone=UTC", {"TimeZone": "UTC"}),
    ],
)
def test_options_are_switches_with_settings(options: str, expected: dict[str, str]) -> None:
    assert settings_of(options) == expected


@pytest.mark.parametrize("options", ["-c", "-c a", "-c =1", "--a", "-d 5", "a=1", "-e", "--=x"])
def test_a_switch_that_is_no_setting_is_refused(options: str) -> None:
    with pytest.raises(ClientError) as caught:
        settings_of(options)
    assert caught.value.sqlstate == "42601"


def test_a_parameter_wins_over_the_same_in_options() -> None:
    found = read_startup_settings({"user": "u", "options": "-c a=1 -c b=2", "a": "3"})
    assert found.others == {"a": "3", "b": "2"}


def test_names_of_the_protocol_are_no_settings() -> None:
    parameters = {"user": "u", "database": "d", "replication": "false", "_pq_.x": "1"}
    found = read_startup_settings(parameters)
    assert (found.application_name, found.others) == (None, {})


def test_an_application_name_is_cleaned_and_cut_as_postgresql_does() -> None:
    found = read_startup_settings({"user": "u", "application_name": "é" + "x" * 100})
    assert found.application_name == "\\xc3\\xa9" + "x" * 55


def test_settings_that_are_remembered_cannot_be_changed() -> None:
    """The next who asks for the same gets them, too."""
    asked = {"user": "u", "options": "-c a=1"}
    with pytest.raises(TypeError):
        read_startup_settings(asked).others["a"] = "2"  # type: ignore[index]
    assert read_startup_settings(dict(asked)).others == {"a": "1"}
