"""Read a configuration file: text to tree, tree to model, and every problem at once.

The one file of this room that touches the disk. What it reads: the file itself, the files named by
`password_file` and `userlist_file`; that certificates and keys exist is looked up, their content is
read by who uses them.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from pydantic import BaseModel, ValidationError

from proxy.config.access import User
from proxy.config.availability import find_unavailable, find_warnings
from proxy.config.contradictions import Contradiction, find_contradictions
from proxy.config.document import Document, UnreadableError, read_document
from proxy.config.environment import apply_flags, from_environment
from proxy.config.listening import ClientTls
from proxy.config.model import Config, Flags, Origin
from proxy.config.pem import find_unusable
from proxy.config.pgbouncer import translate
from proxy.config.problems import ConfigError, Problem, describe, write_path
from proxy.config.secret import Secret
from proxy.config.section import KeyPath
from proxy.config.topology import ServerTls
from proxy.config.userlist import read_userlist
from proxy.config.written import write_yaml
from proxy.errors import ProxyBug

# Keys that name a file with the secret of the key without `_file`.
_SECRET_FILES = ("password_file", "passwd_file", "token_file")
# Keys that name a folder.
_FOLDERS = ("unix_socket_dir", "account")
_MADE_BY_US = (("audit", "file"), ("log", "file"), ("process", "pidfile"))


def load(path: Path, environ: Mapping[str, str], **flags: Unpack[Flags]) -> Config:
    """Read the configuration file at path: YAML, or PgBouncer's with the suffix `.ini`.

    environ: what `${NAME}` expands from. flags: the command line's, which win over the file.
    Raises ConfigError with all problems, each with the file as `path` names it and its line.
    """
    text = _read(path)
    included: Mapping[str, str] = {}
    sought: list[Path] = []
    if is_ini(path):
        _, included = read_ini(text, str(path), path.resolve().parent, sought=sought)
    try:
        return _understand(Origin(path, text=text, included=included, **flags), environ)
    except ConfigError as wrong:
        raise ConfigError(wrong.problems, (*sought, *wrong.files)) from None


def convert(path: Path, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Write the YAML that is equivalent to a `pgbouncer.ini`. Result: it, and all warnings.

    Raises ConfigError when the file is wrong.
    """
    if not is_ini(path):
        reason = "not named like PgBouncer's file; name one that ends in .ini"
        raise ConfigError([Problem(str(path), 1, "(file)", reason)])
    config = load(path, environ)
    document, _ = read_ini(config.origin.text, str(path), path.resolve().parent)
    return write_yaml(document, str(path)), config.warnings


def reload(config: Config, environ: Mapping[str, str]) -> Config:
    """Read the configuration again from where this one came, with the same flags.

    Raises ConfigError; the configuration in use is not touched.
    """
    origin = config.origin
    if origin.path is None:
        return from_environment(environ, **origin.flags)
    return load(origin.path, environ, **origin.flags)


def reload_secrets(config: Config, environ: Mapping[str, str]) -> Config:
    """Read the files with secrets again, and nothing else: the file itself is as it was.

    An operator may be half-way through editing it, and has not asked for that to hold.
    Raises ConfigError; the configuration in use is not touched.
    """
    return config if config.origin.path is None else _understand(config.origin, environ)


def secret_files(config: Config) -> list[Path]:
    """The files whose content is a password or a list of them."""
    return [file for path, file in _paths_in(config, ()) if _holds_secrets(path)]


def files_of(config: Config) -> list[Path]:
    """All files that a configuration is made from: itself, those it includes, those it names."""
    origin = config.origin
    own = [] if origin.path is None else [origin.path, *map(Path, origin.included)]
    return list(dict.fromkeys([*own, *_files_named(config)]))


def _files_named(config: Config) -> list[Path]:
    return [
        file
        for path, file in _paths_in(config, ())
        if path not in _MADE_BY_US and path[-1] != "unix_socket_dir"
    ]


def _understand(origin: Origin, environ: Mapping[str, str]) -> Config:
    path = origin.path
    if path is None:
        raise ProxyBug("a configuration that is from no file has no text")
    folder = path.resolve().parent
    if is_ini(path):
        document, _ = read_ini(origin.text, str(path), folder, origin.included)
        config = _Reading(document, str(path), folder).config()
    else:
        config = parse(origin.text, environ, file=str(path), folder=folder)
    return apply_flags(config, origin).noting(config.warnings, origin)


def is_ini(path: Path) -> bool:
    """Whether a file is PgBouncer's: by its suffix."""
    return path.suffix.lower() == ".ini"


def read_ini(
    text: str,
    file: str,
    folder: Path,
    known: Mapping[str, str] | None = None,
    sought: list[Path] | None = None,
) -> tuple[Document, dict[str, str]]:
    """Understand the text of a `pgbouncer.ini`, with the files it includes.

    known: what stood in files it includes, which are not read again. sought: takes the path of
    each, also of those that cannot be read. Result: also what stands in all of them, by path.
    A relative path starts at the working directory, as in PgBouncer, or beside the file if there
    is nothing there. `${NAME}` means nothing in it.
    """

    def locate(name: str) -> str:
        path = Path(name).expanduser()
        beside = folder / path
        return str(beside if beside.exists() and not path.exists() else Path.cwd() / path)

    included: dict[str, str] = {}

    def include(name: str) -> str:
        where = locate(name)
        if sought is not None:
            sought.append(Path(where))
        if known is not None and where in known:
            included[where] = known[where]
        else:
            included[where] = Path(where).read_text("utf-8")
        return included[where]

    return translate(text, file, include, locate), included


def parse(
    text: str,
    environ: Mapping[str, str],
    *,
    file: str = "pgweir.yaml",
    folder: Path | None = None,
) -> Config:
    """Understand the text of a configuration file.

    file: its name in errors and warnings. folder: where relative paths start, the working directory
    when None. Raises ConfigError with all problems, in the order of their lines.
    """
    try:
        document = read_document(text, environ)
    except UnreadableError as error:
        raise ConfigError([Problem(file, error.line, "(yaml)", error.reason)]) from None
    return _Reading(document, file, folder or Path.cwd()).config()


def _read(path: Path) -> str:
    """The text of the file, or a ConfigError that says why there is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = f"cannot be read ({os.strerror(error.errno or 0)}); name a YAML file with -c"
        raise ConfigError([Problem(str(path), 1, "(file)", reason)]) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = "not UTF-8; save the file as UTF-8"
        raise ConfigError([Problem(str(path), line, "(file)", reason)]) from None


class _Reading:
    """One reading of one document: collects problems, and remembers which values are broken.

    A broken value is left out and the rest is judged without it, so that one mistake does not hide
    another; what only follows from a broken value is not told again.
    """

    def __init__(self, document: Document, file: str, folder: Path) -> None:
        self._document = document
        self._file = file
        self._folder = folder
        self._problems: list[Problem] = []
        self._broken: set[KeyPath] = set()

    def config(self) -> Config:
        """The configuration, or a ConfigError with all that is wrong."""
        self._problems.extend(self._document.problems)
        for line, path, text in self._document.wrong:
            self._problems.append(replace(self._at(path, text), line=line))
            self._broken.add(path)
        self._fill_passwords(self._document.tree, ())
        config = self._validated()
        if config is not None:
            config = self._with_userlist(config)
            for check in (find_contradictions, find_unavailable, self._missing_files):
                for contradiction in check(config):
                    self._judge(contradiction)
        if self._problems or config is None:
            # Stable: what was found on the same line stays in the order it was found.
            problems = sorted(self._problems, key=lambda problem: problem.line)
            raise ConfigError(problems, () if config is None else _files_named(config))
        found = [self._at(*each) for each in (*find_warnings(config), *_unusable_files(config))]
        return config.noting(tuple(map(str, (*self._document.remarks, *found))), Origin())

    def _at(self, path: KeyPath, text: str) -> Problem:
        place = self._document.place_of(path)
        if place is not None:
            return Problem(place.file, place.line, place.name, text)
        return Problem(self._file, self._document.line_of(path), write_path(path), text)

    def _report(self, path: KeyPath, text: str) -> None:
        self._problems.append(self._at(path, text))
        self._broken.add(path)

    def _judge(self, contradiction: Contradiction) -> None:
        about = (contradiction.path, *contradiction.others)
        if not any(_related(path, broken) for path in about for broken in self._broken):
            self._report(contradiction.path, contradiction.text)

    def _fill_passwords(self, tree: Any, path: KeyPath) -> None:
        """Put the content of each `…password_file` in the place of `…password`."""
        if not isinstance(tree, dict):
            return
        for key, value in list(tree.items()):
            password = str(key).removesuffix("_file")
            if not str(key).endswith(_SECRET_FILES) or not isinstance(value, str):
                self._fill_passwords(value, (*path, key))
            elif tree.get(password) is not None:
                self._report((*path, key), f"given together with {password}; keep one of the two")
            else:
                content = self._content_of(self._folder / value, (*path, key))
                # An editor ends the last line; a password does not contain it.
                tree[password] = None if content is None else content.rstrip("\r\n")

    def _content_of(self, file: Path, path: KeyPath) -> str | None:
        try:
            # PostgreSQL takes passwords of any encoding; their bytes survive in this form.
            return file.read_bytes().decode("utf-8", "surrogateescape")
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            self._report(path, f"{file} cannot be read ({reason}); name a file that can")
        return None

    def _validated(self) -> Config | None:
        """The model of all that is sound, or None when not even that makes one."""
        tree = self._document.tree
        first = True
        while True:
            try:
                return Config.model_validate(tree, context={"folder": self._folder})
            except ValidationError as error:
                errors = error.errors(include_url=False, include_input=False)
            sound = tree
            for each in errors:
                # A mapping's key that is no text would end in this mark of pydantic's.
                path = tuple(part for part in each["loc"] if part != "[key]")
                # Later rounds only find what follows from what was left out.
                if first and path not in self._broken:
                    self._report(path, describe(each, Config, self._document.written))
                sound = _cut(sound, path[:-1] if each["type"] == "missing" else path)
            if sound is tree:
                return None
            tree, first = sound, False

    def _with_userlist(self, config: Config) -> Config:
        """The configuration with the users of its `userlist_file` among its users."""
        auth = config.auth
        if auth.userlist_file is None:
            return config
        text = self._content_of(auth.userlist_file, ("auth", "userlist_file"))
        if text is None:
            return config
        passwords, unreadable = read_userlist(text)
        for line, reason in unreadable:
            self._problems.append(Problem(str(auth.userlist_file), line, "(user)", reason))
        users = dict(auth.users)
        for name, password in passwords.items():
            users[name] = _with_password(users.get(name, User()), password)
        return config.model_copy(update={"auth": auth.model_copy(update={"users": users})})

    def _missing_files(self, config: Config) -> Iterator[Contradiction]:
        """Files and folders that are named and not there."""
        for path, file in _paths_in(config, ()):
            if _holds_secrets(path):
                continue
            if path in _MADE_BY_US:
                if not file.parent.is_dir():
                    yield Contradiction(path, f"there is no folder {file.parent}; make it")
            elif path[-1] in _FOLDERS:
                if not file.is_dir():
                    yield Contradiction(path, f"{file} is no folder; make it, or name another")
            elif not file.is_file():
                yield Contradiction(path, f"there is no file {file}; name one that exists")
            elif not os.access(file, os.R_OK):
                yield Contradiction(path, f"{file} cannot be read; allow this user to read it")
        if config.auth.method == "pam" and (text := missing_service(config.auth.pam.pamservice)):
            yield Contradiction(("auth", "pam", "pamservice"), text)


def _unusable_files(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Certificates, keys and authorities with which the program will not start.

    Told as warnings: where a file is judged, they need not be those of the machine it will run on.
    """
    for path, tls in _tls_sections_in(config):
        for key, text in find_unusable(tls):
            yield (*path, key), text


def _tls_sections_in(config: Config) -> Iterator[tuple[KeyPath, ClientTls | ServerTls]]:
    yield ("listen", "tls"), config.listen.tls
    for name, cluster in config.clusters.items():
        yield ("clusters", name, "server", "tls"), cluster.server.tls
    for name, database in config.databases.items():
        if database.server is not None:
            yield ("databases", name, "server", "tls"), database.server.tls


def missing_service(service: str) -> str | None:
    """Say that PAM has no such service, or None. It would take `other`, mostly the system's logins.

    Source: Linux-PAM, pam.conf(5).
    """
    folders = [Path("/etc/pam.d"), Path("/usr/lib/pam.d"), Path("/usr/etc/pam.d")]
    if any((folder / service).is_file() for folder in folders) or not folders[0].is_dir():
        return None  # without that folder /etc/pam.conf holds them all
    return f"PAM has no service {service!r}; make the file {folders[0] / service}"


def _holds_secrets(path: KeyPath) -> bool:
    return str(path[-1]).endswith((*_SECRET_FILES, "userlist_file"))


def _with_password(user: User, password: Secret) -> User:
    """The user with this password, unless it has one of its own."""
    return user if user.password is not None else user.model_copy(update={"password": password})


def _paths_in(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Path]]:
    """Every file or folder that is named below a section, with where it is named."""
    if isinstance(value, Path):
        yield path, value
    elif isinstance(value, BaseModel):
        for key, below in value:
            yield from _paths_in(below, (*path, key))
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _paths_in(below, (*path, key))


def _related(one: KeyPath, other: KeyPath) -> bool:
    """Whether one path is the other, or leads to it."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _cut(tree: Any, path: KeyPath) -> Any:
    """The tree without the value at path, or without the innermost mapping entry around it.

    An item is never taken out of a list, because the items behind it would change their paths:
    the whole list is left out then.
    The same tree when there is nothing to leave out.
    """
    if not path or not isinstance(tree, dict | list):
        return tree
    part, rest = path[0], path[1:]
    if isinstance(tree, list):
        if not isinstance(part, int) or part >= len(tree):
            return tree
        below = _cut(tree[part], rest)
        return tree if below is tree[part] else [*tree[:part], below, *tree[part + 1 :]]
    if part not in tree:
        return tree
    below = _cut(tree[part], rest)
    if below is not tree[part]:
        return {**tree, part: below}
    return {key: value for key, value in tree.items() if key != part}
