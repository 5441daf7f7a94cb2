"""Who is this, and can they prove it? Login exchanges and secrets. Pure.

Two conversations: a client logs in to us (`begin` gives an `Exchange`), and we log in to a server
(`ServerLogin`). What is known about users is a `Roster` of secrets; what logins are measured
against, and strangers too, are the `Verifiers`. Which of the conversations a connection must hold,
and whether any, says `Admission`. Randomness is handed in; sockets and clocks belong to the
callers, and only `admission` touches the disk.
"""

from proxy.auth.admission import Admission, read_admission
from proxy.auth.delegated import (
    AskedTheWay,
    BearerExchange,
    ClearPasswordExchange,
    DelegatedExchange,
    Signpost,
)
from proxy.auth.exchange import METHODS, Exchange, Reply, begin
from proxy.auth.found import USUAL_SECRET, FoundSecrets, read_found
from proxy.auth.hba import Facts, NotAllowedError, Rule, Rules, refusal
from proxy.auth.keys import DerivedKeys, ScramKeys
from proxy.auth.places import Interface
from proxy.auth.roster import Roster
from proxy.auth.secrets import (
    Md5Secret,
    PlainSecret,
    ScramVerifier,
    Secret,
    SecretError,
    parse_secret,
)
from proxy.auth.server_login import Channel, Credential, ServerLogin
from proxy.auth.verifiers import Verifiers

__all__ = [
    "METHODS",
    "USUAL_SECRET",
    "Admission",
    "AskedTheWay",
    "BearerExchange",
    "Channel",
    "ClearPasswordExchange",
    "Credential",
    "DelegatedExchange",
    "DerivedKeys",
    "Exchange",
    "Facts",
    "FoundSecrets",
    "Interface",
    "Md5Secret",
    "NotAllowedError",
    "PlainSecret",
    "Reply",
    "Roster",
    "Rule",
    "Rules",
    "ScramKeys",
    "ScramVerifier",
    "Secret",
    "SecretError",
    "ServerLogin",
    "Signpost",
    "Verifiers",
    "begin",
    "parse_secret",
    "read_admission",
    "read_found",
    "refusal",
]
