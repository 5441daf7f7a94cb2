"""Fixtures of the auth room: verifiers with a fixed process secret, and a cache of keys."""

import pytest

from proxy.auth import DerivedKeys, Verifiers


@pytest.fixture
def process_secret() -> bytes:
    return b"a secret of the process, 32 byte"


@pytest.fixture
def verifiers(process_secret: bytes) -> Verifiers:
    return Verifiers(process_secret)


@pytest.fixture
def derived() -> DerivedKeys:
    return DerivedKeys()
