"""Open a connection to PostgreSQL and log in: a coroutine that ends where the relay begins.

The server is a stranger: what it sends is bounded in size and number, and its login messages are
accepted in their order only.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from proxy.auth import Channel, Credential, DerivedKeys, ServerLogin
from proxy.errors import ClientError, PeerError, ProxyBug
from proxy.relay import Relay, Server, next_message
from proxy.server.place import Place, channel_of, open_link
from proxy.wire import messages

# PostgreSQL 18 reports 16 parameters, forks a few more.
_MOST_PARAMETERS = 200
_MOST_MESSAGES = 1000
_MOST_MESSAGE_BYTES = 65536

# Its clients see it as ours: a server may put anything there.
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
# SQLSTATEs of a login refused by the server that may well be accepted in a moment.
_PASSING = frozenset({"53300", "57P03", "57P01", "57P02", "53400", "53200", "53000"})

# Where PostgreSQL raises 53300 when all its connections are in use, or all but reserved ones. It
# raises the same about one role or one database elsewhere; the texts are translated.
_FULL_ROUTINES = frozenset(
    {"InitProcess", "InitPostgres", "BackendInitialize", "ProcessStartupPacket"}
)


class Unreachable(Exception):  # noqa: N818 -- a fact about the server, not an error of ours
    """The server could not be reached, or not in time; trying again may help."""


class NodeFull(Unreachable):
    """The node has no connection left for anybody, whichever the user or the database."""


class LoginRefused(ClientError):  # noqa: N818 -- as Unreachable
    """The server was reached and said no; trying again will not help until somebody acts.

    sqlstate, message, …: the server's own words.
    """


@dataclass(frozen=True, slots=True)
class Dialled:
    """A connection that is logged in and ready, still in the hands of the control plane.

    parameters: all it reported (ParameterStatus). pid, secret: its cancel key.
    complaint: what its first query failed with, None when there was none or it did not.
    """

    link: Server
    parameters: Mapping[str, str]
    pid: int
    secret: bytes
    complaint: str | None = None


async def dial(
    relay: Relay,
    place: Place,
    *,
    user: str,
    credential: Credential | None,
    startup: Mapping[str, str],
    derived: DerivedKeys,
    timeout_s: float,
    first_query: str | None = None,
) -> Dialled:
    """Connect and log in.

    startup: the StartupMessage's parameters besides `user`. derived: keys kept between logins.
    first_query: what is run before anybody gets the connection; it may fail.
    timeout_s: for all of it, 0 is no limit.
    Raises Unreachable, LoginRefused, or PeerError when the server breaks the protocol.
    """

    def login_over(channel: Channel) -> ServerLogin:
        return ServerLogin(
            user,
            credential,
            derived=derived,
            # A clear password is for ears that may hear it.
            allow_cleartext=channel.is_tls or place.is_local,
            require_auth=place.require_auth,
            channel=channel,
        )

    ways = {"disable": (False,), "allow": (False, True)}.get(place.tls.mode, (True,))
    try:
        async with asyncio.timeout(timeout_s or None):
            for with_tls in ways:
                try:
                    dialled = await _dial_once(relay, place, login_over, startup, with_tls=with_tls)
                    return await _ask_first(dialled, first_query)
                except LoginRefused as refused:
                    # No pg_hba.conf entry without encryption: the mode allows TLS as well.
                    if with_tls is ways[-1] or refused.sqlstate != "28000":
                        raise
            raise ProxyBug("there is always a last way")
    except TimeoutError:
        raise Unreachable(f"{place} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        raise Unreachable(f"{place} could not be reached: {error.strerror or error}") from None


async def _dial_once(
    relay: Relay,
    place: Place,
    login_over: Callable[[Channel], ServerLogin],
    startup: Mapping[str, str],
    *,
    with_tls: bool,
) -> Dialled:
    link, session = await open_link(relay, place, with_tls=with_tls)
    try:
        login = login_over(channel_of(place, session))
        parameters = {"user": login.user, **startup}
        link.write(messages.startup_message(messages.PROTOCOL_3_0, parameters))
        return await _log_in(link, login)
    except BaseException:
        link.abandon()
        raise


async def _ask_first(dialled: Dialled, text: str | None) -> Dialled:
    """Run a query whose rows nobody wants."""
    if text is None:
        return dialled
    link, parameters, complaint = dialled.link, dict(dialled.parameters), None
    try:
        link.write(messages.query(text))
        while True:
            kind, body = await next_message(link, _MOST_MESSAGE_BYTES)
            if kind == b"S":
                name, value = messages.read_parameter_status(body)
                if len(parameters) < _MOST_PARAMETERS:
                    parameters[name] = value
            elif kind == b"E":
                complaint = messages.read_fields(body).get("M", "an error without a reason")
            elif kind == b"G":
                raise PeerError("the first query is a COPY from the client")
            elif kind == b"Z":
                if body != b"I":
                    raise PeerError("the first query has left a transaction open")
                return replace(dialled, parameters=parameters, complaint=complaint)
    except BaseException:
        link.abandon()
        raise


async def _log_in(link: Server, login: ServerLogin) -> Dialled:
    parameters: dict[str, str] = {}
    key: tuple[int, bytes] | None = None
    for _ in range(_MOST_MESSAGES):
        kind, body = await next_message(link, _MOST_MESSAGE_BYTES)
        if kind == b"R":
            answer = login.receive(body)
            if answer is not None:
                link.write(messages.password_message(answer))
        elif kind == b"E":
            raise _refusal(messages.read_fields(body))
        elif kind == b"N":
            continue
        elif not login.done:
            raise PeerError(f"the server sent {kind!r} before the login was over")
        elif kind == b"S":
            name, value = messages.read_parameter_status(body)
            parameters[name] = value
            if len(parameters) > _MOST_PARAMETERS:
                raise PeerError("the server reports too many parameters")
        elif kind == b"K":
            key = messages.read_backend_key_data(body)
        elif kind == b"Z":
            if body != b"I":
                raise PeerError("the server is in a transaction right after its login")
            # Servers without cancellation send no key.
            pid, secret = key or (0, b"\0\0\0\0")
            return Dialled(link, parameters, pid, secret)
        else:
            raise PeerError(f"the server sent {kind!r} during the login")
    raise PeerError("the server's login does not end")


def _refusal(fields: Mapping[str, str]) -> Exception:
    sqlstate = fields.get("C", "")
    if not _SQLSTATE.fullmatch(sqlstate):
        sqlstate = "08004"
    text = fields.get("M") or "the server refused the login without a reason"
    if sqlstate == "53300" and fields.get("R") in _FULL_ROUTINES:
        return NodeFull(f"{text} ({sqlstate})")
    if sqlstate in _PASSING:
        return Unreachable(f"{text} ({sqlstate})")
    return LoginRefused(sqlstate, text, detail=fields.get("D"), hint=fields.get("H"))
