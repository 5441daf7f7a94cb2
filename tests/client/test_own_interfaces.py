"""The kernel tells this machine's addresses."""

import ipaddress
import socket

from proxy.client.address import ip_of
from proxy.client.interfaces import own_interfaces


def test_loopback_is_among_them_with_its_network() -> None:
    assert ipaddress.ip_interface("127.0.0.1/8") in own_interfaces()


def test_the_address_packets_leave_from_is_among_them() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))
        leaving = ipaddress.ip_address(sock.getsockname()[0])
    assert leaving in {each.ip for each in own_interfaces()}


def test_an_ipv4_address_in_ipv6_is_an_ipv4_address() -> None:
    assert ip_of("[::ffff:192.0.2.9]:5000") == ipaddress.ip_address("192.0.2.9")
    assert ip_of("[2001:db8::1]:5000") == ipaddress.ip_address("2001:db8::1")
