"""The messages we write and the small ones we read."""

import struct

import pytest

from proxy.errors import PeerError
from proxy.wire import messages


def test_an_error_response_has_its_fields_in_order() -> None:
    assert messages.error_response("08006", "lost", detail="d", hint="h") == (
        b"E\0\0\0\x26SERROR\0VERROR\0C08006\0Mlost\0Dd\0Hh\0\0"
    )


def test_a_nul_in_a_text_of_ours_does_not_end_its_field() -> None:
    assert messages.read_fields(messages.error_response("XX000", "a\0Mb")[5:])["M"] == "a Mb"


def test_bytes_that_are_not_utf_8_go_out_as_they_came() -> None:
    body = b"na\xffme\0val\xfeue\0"
    name, value = messages.read_parameter_status(body)
    assert messages.parameter_status(name, value)[5:] == body


def test_startup_parameters_are_read_in_order_and_the_last_of_a_name_wins() -> None:
    body = struct.pack("!i", 196608) + b"user\0a\0x\x001\0user\0b\0\0"
    assert list(messages.read_startup_parameters(body).items()) == [("user", "b"), ("x", "1")]


def test_a_startup_packet_may_have_no_parameters() -> None:
    assert messages.read_startup_parameters(struct.pack("!i", 196608) + b"\0") == {}


def test_a_value_may_be_empty() -> None:
    body = struct.pack("!i", 196608) + b"user\0\0\0"
    assert messages.read_startup_parameters(body) == {"user": ""}


@pytest.mark.parametrize(
    "texts", [b"", b"user", b"user\0", b"user\0a", b"user\0a\0", b"user\0a\0x\0\0", b"\0a\0\0"]
)
def test_a_malformed_startup_packet_is_the_peers_fault(texts: bytes) -> None:
    with pytest.raises(PeerError):
        messages.read_startup_parameters(struct.pack("!i", 196608) + texts)


@pytest.mark.parametrize("length", [0, 3])
def test_a_packet_shorter_than_its_code_is_the_peers_fault(length: int) -> None:
    with pytest.raises(PeerError):
        messages.read_request_code(b"x" * length)


@pytest.mark.parametrize("length", [4, 32, 256])
def test_a_cancel_request_has_a_secret_of_its_length(length: int) -> None:
    secret = bytes(range(256))[:length]
    packet = messages.cancel_request(-5, secret)
    assert messages.read_cancel_request(packet[4:]) == (-5, secret)


@pytest.mark.parametrize("length", [0, 3, 257])
def test_a_cancel_request_with_a_secret_of_another_length_is_the_peers_fault(length: int) -> None:
    with pytest.raises(PeerError):
        messages.read_cancel_request(struct.pack("!ii", 80877102, 1) + b"x" * length)


@pytest.mark.parametrize("body", [b"", b"\0", b"a", b"a\0", b"a\0b", b"a\0b\0c", b"\0b\0"])
def test_a_malformed_parameter_status_is_the_peers_fault(body: bytes) -> None:
    with pytest.raises(PeerError):
        messages.read_parameter_status(body)


@pytest.mark.parametrize("body", [b"", b"\0\0\0\1", b"\0\0\0\1abc", b"x" * 261])
def test_a_key_of_a_wrong_length_is_the_peers_fault(body: bytes) -> None:
    with pytest.raises(PeerError):
        messages.read_backend_key_data(body)


@pytest.mark.parametrize("body", [b"", b"\0", b"SFATAL", b"\0\0\0", b"S\0C\0M"])
def test_an_error_without_its_fields_or_its_end_can_be_read(body: bytes) -> None:
    messages.read_fields(body)


def test_negotiation_names_what_is_not_known() -> None:
    written = messages.negotiate_protocol_version(messages.PROTOCOL_3_2, ("_pq_.a", "_pq_.b"))
    assert written[5:] == struct.pack("!ii", 0x30002, 2) + b"_pq_.a\0_pq_.b\0"


def test_a_negotiated_version_may_be_the_minor_number_alone() -> None:
    assert messages.read_negotiated_version(struct.pack("!ii", 2, 0)) == 0x30002
    assert messages.read_negotiated_version(struct.pack("!ii", 0x30000, 0)) == 0x30000
