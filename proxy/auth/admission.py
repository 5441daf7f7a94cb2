"""Who may come in by which method, as the configuration and the files it names say.

The one file of this room that touches the disk.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from proxy.auth.hba import Rule, Rules, read_rules
from proxy.auth.hba_text import Fault, Line, read_lines
from proxy.auth.ident import UserMaps, read_maps
from proxy.auth.names import Groups
from proxy.config import (
    Auth,
    Config,
    ConfigError,
    Ldap,
    Oauth,
    Pam,
    Problem,
    missing_part,
    missing_service,
)


@dataclass(frozen=True, slots=True)
class Admission:
    """Rules for logins, and the maps they name.

    warnings: what is right and does nothing, one line each with its place.
    """

    rules: Rules
    maps: UserMaps
    warnings: tuple[str, ...] = ()

    def allows(self, rule: Rule, known_as: str, user: str) -> bool:
        """Whether who is vouched for under that name may be this user."""
        return self.maps.allows(rule.options.get("map"), known_as, user)


class Disk:
    """Files as they lie on the disk; for `read_lines`."""

    def read(self, path: Path) -> str:
        """Give a file's text. Raises OSError."""
        return path.read_bytes().decode("utf-8", "surrogateescape")

    def list_conf(self, folder: Path) -> Sequence[Path]:
        """Give the files a folder includes. Raises OSError."""
        return sorted(
            (
                each
                for each in folder.iterdir()
                if each.name.endswith(".conf") and each.name[0] != "." and each.is_file()
            ),
            key=os.fsencode,
        )


def read_admission(config: Config) -> Admission:
    """Read who may come in. Raises ConfigError with every wrong line of the files."""
    auth = config.auth
    groups = Groups(auth.groups)
    faults: list[Fault] = []
    maps = UserMaps()
    if auth.ident_file is not None:
        mapped, wrong = read_maps(_lines_of(auth.ident_file, faults), groups)
        maps = UserMaps(mapped, groups)
        faults += wrong
    if auth.method == "hba" and auth.hba_file is not None:
        found, wrong = read_rules(_lines_of(auth.hba_file, faults), groups)
        faults += wrong
        faults += _find_faults(found, maps, config)
        if not found and not faults:
            faults.append(Fault(auth.hba_file, 1, "there is no rule, so that nobody may come in"))
        rules = Rules(found, groups)
    else:
        rules = Rules.always(auth.method, {} if auth.map is None else {"map": auth.map})
    if faults:
        raise ConfigError(
            [
                Problem(str(fault.file), fault.number, "(rule)", fault.text)
                for fault in sorted(faults, key=lambda fault: (str(fault.file), fault.number))
            ]
        )
    dead = () if config.listen.tls.mode != "disable" else tuple(_find_dead(rules))
    return Admission(rules, maps, dead)


def _lines_of(path: Path, faults: list[Fault]) -> Iterable[Line]:
    try:
        lines, wrong = read_lines(path, Disk())
    except OSError as error:
        faults.append(Fault(path, 1, f"cannot be read ({error.strerror})"))
        return ()
    faults += wrong
    return lines


def _find_dead(rules: Iterable[Rule]) -> Iterator[str]:
    """Rules that cannot match, because nobody is offered TLS."""
    for rule in rules:
        if rule.type == "hostssl":
            text = "hostssl never matches, because listen.tls.mode is disable"
            yield str(Problem(str(rule.file), rule.line, "(rule)", text))


def _find_faults(rules: Iterable[Rule], maps: UserMaps, config: Config) -> Iterator[Fault]:
    """What is wrong with rules that are sound by themselves."""
    for rule in rules:
        name = rule.options.get("map")
        if rule.file is None:
            continue
        if (text := _fault_of_judge(rule, config.auth)) is not None:
            yield Fault(rule.file, rule.line, text)
        if name and name not in maps:
            text = f'there is no map "{name}"; describe it in the file under auth.ident_file'
            yield Fault(rule.file, rule.line, text)
        if rule.certificate is not None and config.listen.tls.ca is None:
            text = "nothing to check certificates against; name authorities under listen.tls.ca"
            yield Fault(rule.file, rule.line, text)


def _fault_of_judge(rule: Rule, auth: Auth) -> str | None:
    """What keeps the judge of a rule, where somebody else judges, from being asked."""
    if rule.method not in ("ldap", "pam", "oauth"):
        return None
    if (missing := missing_part(rule.method)) is not None:
        return missing
    section: Ldap | Pam | Oauth = getattr(auth, rule.method)
    try:
        asked = section.for_rule(rule.options)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        return ": ".join([*map(str, wrong["loc"]), wrong["msg"]])
    if isinstance(asked, Pam):
        return missing_service(asked.pamservice)
    lack = asked.lack
    if lack is not None:
        return f"{rule.method} needs {lack}, here or under auth.{rule.method}"
    return None
