"""The fuzz targets under hypothesis, for every run of the suite."""

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, packets, typed_messages

# Bytes that look like what the readers expect find more than noise does.
texts = st.lists(st.binary(max_size=8).map(lambda raw: raw.replace(b"\0", b"")), max_size=6)
bodies = st.one_of(
    st.binary(max_size=300),
    texts.map(lambda each: b"\0".join(each) + b"\0"),
    texts.map(lambda each: struct.pack("!i", 196608) + b"\0".join(each) + b"\0\0"),
    st.text("-c =\\ab\t\n'\"", max_size=40).map(str.encode),
)
frames = st.lists(
    st.tuples(
        st.sampled_from([b"", b"Q", b"p", b"R"]),
        st.one_of(st.integers(-5, 30), st.sampled_from([2**31 - 1, -(2**31), 10_001])),
        st.binary(max_size=30),
    ).map(lambda parts: parts[0] + struct.pack("!i", parts[1]) + parts[2]),
    max_size=4,
).map(b"".join)


@pytest.mark.parametrize(
    "name", [name for name in TARGETS if "packets" not in name and "typed" not in name]
)
def test_no_bytes_break_a_reader(name: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(bodies)
    @example(b"")
    @example(b"\0")
    def check(octets: bytes) -> None:
        TARGETS[name](octets)

    check()


@settings(max_examples=60, deadline=None)
@given(frames)
@example(struct.pack("!i", 8) + b"abcd" + struct.pack("!i", 9) + b"abcde")
def test_packets_come_out_the_same_however_they_arrive(octets: bytes) -> None:
    packets(octets)


@settings(max_examples=60, deadline=None)
@given(frames)
@example(b"Q" + struct.pack("!i", 4) + b"p" + struct.pack("!i", 6) + b"ab")
def test_messages_come_out_the_same_however_they_arrive(octets: bytes) -> None:
    typed_messages(octets)
