"""The users an operator told us of, by name.

One roster is one reading of the configuration and the user list; a reload makes another. It knows
who exists, not who may do what.
"""

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

from proxy.auth.secrets import Secret, SecretError, encode_text, parse_secret, with_old
from proxy.auth.verifiers import Verifiers


class Roster:
    """Users and their secrets. Does not change.

    users: secret by user name, None for a user who has none and proves themselves in other ways.
    Raises SecretError for a name that no client could send.
    """

    __slots__ = ("_users",)

    def __init__(self, users: Mapping[str, Secret | None]) -> None:
        for name in users:
            if not name or "\0" in name or encode_text(name) is None:
                raise SecretError(f"{name!a} cannot be a user name")
        self._users = MappingProxyType(dict(users))

    @classmethod
    def from_texts(
        cls, users: Mapping[str, str | None], old: Mapping[str, str] = MappingProxyType({})
    ) -> "Roster":
        """Make a roster of secret texts. Raises SecretError, naming the user.

        old: secrets before the present ones, still valid, of users who have both.
        """
        secrets: dict[str, Secret | None] = {}
        for name, text in users.items():
            try:
                secret = None if text is None else parse_secret(text)
                if secret is not None and name in old:
                    secret = with_old(secret, parse_secret(old[name]))
                secrets[name] = secret
            except SecretError as refused:
                raise SecretError(f'user "{name}": {refused}') from None
        return cls(secrets)

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[str]:
        return iter(self._users)

    def __contains__(self, name: object) -> bool:
        return name in self._users

    def lookup(self, name: str) -> Secret | None:
        """Give the user's secret, or None when there is no such user, or none with a secret."""
        return self._users.get(name)

    def prepare(
        self, verifiers: Verifiers, *, derive: bool = True, beside: Collection[Secret] = ()
    ) -> int:
        """Make the verifiers ready for these users, before the first of them may log in.

        Costs a PBKDF2, about a millisecond, for each plain password that is new; safe to run in a
        thread, where it lets go of the interpreter's lock.
        beside: in form like the secrets of users who are known elsewhere.
        derive: False where no method in force is scram-sha-256; plain passwords then stay so.
        Result: how many verifiers were derived.
        """
        secrets = {name: secret for name, secret in self._users.items() if secret is not None}
        verifiers.learn([*secrets.values(), *beside])
        if not derive:
            return 0
        return sum(verifiers.prepare(name, secret) for name, secret in secrets.items())
