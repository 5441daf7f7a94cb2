"""Where processes of one proxy listen to each other."""

import os
import socket
import subprocess
import sys

import pytest

from proxy.unix import peer_of
from proxy.workers.addresses import Addresses, is_ours

SQUATTER = """
import socket, sys
squatter = socket.socket(socket.AF_UNIX)
squatter.bind(bytes.fromhex(sys.argv[1]))
squatter.listen()
print("listens", flush=True)
sys.stdin.read()
"""


def test_a_process_is_found_by_its_index() -> None:
    addresses = Addresses(3)
    with addresses.listen(2) as listener, addresses.connect(2) as end:
        accepted, _ = listener.accept()
        with accepted:
            assert peer_of(end)[0] == os.getpid()
            assert is_ours(accepted.fileno())


def test_who_does_not_listen_is_not_waited_for() -> None:
    addresses = Addresses(2)
    with pytest.raises(ConnectionRefusedError):
        addresses.connect(0)
    addresses.listen(1).close()
    with pytest.raises(ConnectionRefusedError):
        addresses.connect(1)


def test_who_takes_the_name_of_a_process_that_is_gone_is_not_talked_to() -> None:
    addresses = Addresses(1)
    with addresses.listen(0) as listener:
        name = listener.getsockname()
    with subprocess.Popen(
        [sys.executable, "-c", SQUATTER, name.hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as squatter:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == "listens\n"
        with pytest.raises(ConnectionRefusedError):
            addresses.connect(0)
        # It is there for those who do not look.
        with socket.socket(socket.AF_UNIX) as end:
            end.connect(name)
        squatter.communicate()
