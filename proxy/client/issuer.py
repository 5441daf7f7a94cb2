"""The keys of a token's issuer: fetched over HTTPS, or read from a file, and kept.

They are asked for anew when they are old, and when a token names a key that is not among them, but
that only so often: a stranger's tokens may name anything. While the issuer cannot be reached the
keys that are known go on serving. Imported only where tokens are asked for: PyJWT is an extra.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from proxy.auth.tokens import KeySet, TokenError, UnknownKeyError, discovery_url, issuer_of
from proxy.config import is_private_url
from proxy.tasks import in_thread

_log = logging.getLogger("pgweir.client")

# A key that the issuer has withdrawn is believed for so long at most.
_KEYS_TRUSTED_S = 3600.0
# However many tokens name unknown keys; and while no key is known at all.
_FETCHES_APART_S = 10.0
_FIRST_FETCHES_APART_S = 1.0
_MOST_BYTES = 1 << 20


class IssuerKeys:
    """Keeps one issuer's keys.

    issuer: as configured. url, file: where its keys are, when its configuration need not say.
    ca: authorities for its certificate. clock: monotonic seconds.
    """

    def __init__(
        self,
        issuer: str,
        *,
        url: str | None,
        file: Path | None,
        ca: Path | None,
        timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._file = file
        self._ca = ca
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._fetching = asyncio.Lock()

    async def use(self, check: Callable[[KeySet], str]) -> str | None:
        """Check a token with the keys, and once more with newer ones if it names an unknown key.

        Result: what `check` gives, or None when there are no keys. Raises TokenError.
        """
        if self._keys is None or self._clock() - self._fetched_s >= _KEYS_TRUSTED_S:
            await self._refresh(self._keys)
        keys = self._keys
        if keys is None:
            return None
        try:
            return check(keys)
        except UnknownKeyError:
            await self._refresh(keys)
            if self._keys is keys or self._keys is None:
                raise
            return check(self._keys)

    async def _refresh(self, known: KeySet | None) -> None:
        """Get newer keys than those known, unless somebody just has or that was just tried."""
        async with self._fetching:
            apart_s = _FIRST_FETCHES_APART_S if known is None else _FETCHES_APART_S
            if self._keys is not known or self._clock() - self._tried_s < apart_s:
                return
            self._tried_s = self._clock()
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._keys = KeySet(await self._get())
            except (OSError, ValueError, RecursionError, aiohttp.ClientError, TokenError) as error:
                reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                _log.error(
                    "the keys of the tokens' issuer cannot be had",
                    extra={"facts": {"issuer": self._issuer, "reason": reason[:200]}},
                )
            else:
                self._fetched_s = self._clock()

    async def _get(self) -> Any:
        if self._file is not None:
            return json.loads(await in_thread(self._file.read_bytes))
        # Made anew each time, so that a renewed file of authorities holds.
        context = await in_thread(ssl.create_default_context, cafile=self._ca)
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            url = self._url
            if url is None:
                url = self._read_configuration(await _fetch(session, discovery_url(self._issuer)))
            return await _fetch(session, url)

    def _read_configuration(self, configuration: object) -> str:
        """Where the keys are. Raises TokenError when this is not the issuer's configuration."""
        if not isinstance(configuration, dict):
            raise TokenError("its configuration is no JSON object")
        if configuration.get("issuer") != issuer_of(self._issuer):
            raise TokenError("its configuration names another issuer")
        url = configuration.get("jwks_uri")
        if not isinstance(url, str) or not is_private_url(url):
            raise TokenError("its configuration names no https URL of its keys")
        return url


async def _fetch(session: aiohttp.ClientSession, url: str) -> Any:
    """A JSON document of bounded size. Raises aiohttp.ClientError, TokenError, ValueError."""
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise TokenError(f"{url} answered with status {answer.status}")
        body = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            body += chunk
            if len(body) > _MOST_BYTES:
                raise TokenError(f"{url} answered with more than {_MOST_BYTES} bytes")
    return json.loads(bytes(body))
