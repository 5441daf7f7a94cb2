"""The readers of strangers' bytes, each with its invariant in one sentence.

A target takes bytes; it returns when the invariant held and raises when it did not.
"""

import contextlib
from collections.abc import Callable

from proxy.client import read_startup
from proxy.errors import ClientError, PeerError
from proxy.session import read_startup_settings
from proxy.session.settings import quote_name, quote_text
from proxy.wire import messages
from tests.fuzz.wire_end import read_all

Target = Callable[[bytes], None]


def startup_parameters(octets: bytes) -> None:
    """A startup packet is read, or refused as the peer's fault; what is read can be written."""
    try:
        read = messages.read_startup_parameters(octets)
    except PeerError:
        return
    written = messages.startup_message(messages.PROTOCOL_3_0, read)
    assert messages.read_startup_parameters(written[4:]) == read


def startup(octets: bytes) -> None:
    """A startup packet ends in a Startup, a refusal to the peer, or an answer with a SQLSTATE."""
    try:
        found = read_startup(messages.read_request_code(octets), octets)
        read_startup_settings(found.parameters)
    except PeerError:
        pass
    except ClientError as refused:
        assert len(refused.sqlstate) == 5


def startup_options(octets: bytes) -> None:
    """Any `options` are read or refused with 42601, and no setting has an empty name."""
    text = octets.decode("utf-8", "surrogateescape")
    try:
        found = read_startup_settings({"user": "u", "options": text})
    except ClientError as refused:
        assert refused.sqlstate == "42601"
        return
    assert all(found.others)


def cancel_request(octets: bytes) -> None:
    """A cancel request has a key of 4 to 256 bytes, or is the peer's fault."""
    try:
        _, secret = messages.read_cancel_request(octets)
    except PeerError:
        return
    assert 4 <= len(secret) <= 256


def parameter_status(octets: bytes) -> None:
    """A ParameterStatus is the two texts it is made of, or the peer's fault."""
    try:
        name, value = messages.read_parameter_status(octets)
    except PeerError:
        return
    assert messages.parameter_status(name, value)[5:] == octets


def backend_key_data(octets: bytes) -> None:
    """A key is the bytes it is made of, or the peer's fault."""
    try:
        pid, secret = messages.read_backend_key_data(octets)
    except PeerError:
        return
    assert messages.backend_key_data(pid, secret)[5:] == octets


def fields(octets: bytes) -> None:
    """An ErrorResponse can always be read, whatever it is."""
    found = messages.read_fields(octets)
    assert all(len(code) == 1 for code in found)


def negotiated_version(octets: bytes) -> None:
    """A NegotiateProtocolVersion is read, or is the peer's fault."""
    with contextlib.suppress(PeerError):
        messages.read_negotiated_version(octets)


def error_response(octets: bytes) -> None:
    """A text of ours, whatever is in it, stays one field of its message."""
    text = octets.decode("utf-8", "surrogateescape")
    written = messages.error_response("XX000", text, detail=text, hint=text)
    read = messages.read_fields(written[5:])
    assert read["C"] == "XX000"
    assert read["M"] == text.replace("\0", " ")
    assert set(read) == set("SVCMDH")


def quoting(octets: bytes) -> None:
    """A quoted text or name ends at its own last quote, whatever is in it."""
    text = octets.decode("utf-8", "surrogateescape")
    body = quote_text(text)[2:-1]
    at = 0
    while at < len(body):
        if body[at] in "\\'":
            # Only in pairs: a backslash and itself, a quote and itself.
            assert body[at : at + 2] in ("\\\\", "''")
            at += 1
        at += 1
    for part in quote_name(text).split("."):
        assert part[0] == part[-1] == '"'
        assert '"' not in part[1:-1].replace('""', "")


def packets(octets: bytes) -> None:
    """Packets come out the same whole as byte by byte."""
    take = lambda link: link.take_packet(10_000)  # noqa: E731
    assert read_all([octets], take) == read_all(
        [octets[i : i + 1] for i in range(len(octets))], take
    )


def typed_messages(octets: bytes) -> None:
    """Messages come out the same whole as byte by byte."""
    take = lambda link: link.take_message(65_535)  # noqa: E731
    assert read_all([octets], take) == read_all(
        [octets[i : i + 1] for i in range(len(octets))], take
    )


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (
        startup_parameters,
        startup,
        startup_options,
        cancel_request,
        parameter_status,
        backend_key_data,
        fields,
        negotiated_version,
        error_response,
        quoting,
        packets,
        typed_messages,
    )
}
