"""Who guesses passwords is answered later and later.

Only refusals are delayed, so an address that a whole network shares keeps logging in as fast as
before; and by address alone, so the delay says nothing of whether a user exists.
"""

import ipaddress
from collections.abc import Callable

from proxy.client.address import ip_of

# A person who mistypes, or an application that starts with an old password, is not slowed down.
_FREE = 5
_FIRST_DELAY_S = 0.1
_FORGOTTEN_AFTER_S = 10.0
# More are not counted: forgiving must come to an end.
_MOST = 30
# Who has one address of an IPv6 network has all of them.
_V6_NETWORK_BITS = 64


class FailedLogins:
    """Failures by address; one is forgotten every 10 s.

    clock: monotonic seconds. limit: addresses remembered, the one longest without a failure goes.
    """

    def __init__(self, clock: Callable[[], float], limit: int = 10_000) -> None:
        self._clock = clock
        self._limit = limit
        # Failures not yet forgotten, and when that was so.
        self._known: dict[str, tuple[float, float]] = {}

    def note(self, address: str, most_s: float) -> float:
        """Count one failure. Result: seconds to wait before it is told, at most `most_s`.

        address: as `Client.address`; failures over a Unix socket are not counted.
        """
        network = _network_of(address)
        if network is None or not most_s:
            return 0.0
        now_s = self._clock()
        count, since_s = self._known.pop(network, (0.0, now_s))
        count = max(0.0, count - (now_s - since_s) / _FORGOTTEN_AFTER_S) + 1.0
        self._known[network] = (min(count, _MOST), now_s)
        if len(self._known) > self._limit:
            del self._known[next(iter(self._known))]
        if count < _FREE + 1:
            return 0.0
        delay_s: float = _FIRST_DELAY_S * 2.0 ** (count - _FREE - 1)
        return min(most_s, delay_s)

    def __len__(self) -> int:
        return len(self._known)


def _network_of(address: str) -> str | None:
    ip = ip_of(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((ip, _V6_NETWORK_BITS), strict=False))
    return None if ip is None else str(ip)
