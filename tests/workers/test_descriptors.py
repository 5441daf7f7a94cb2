"""Whether the limit of open files does for the limits of the configuration."""

import resource

from proxy.config import Config
from proxy.workers.descriptors import (
    missing_descriptors,
    needed_descriptors,
    raise_descriptor_limit,
)

SMALL = {
    "listen": {"max_client_conn": 100},
    "clusters": {"main": {"nodes": [{"host": "10.0.0.1"}]}},
    "databases": {"one": {"cluster": "main", "pool_size": 5}, "two": {"cluster": "main"}},
}


def needed(**changes: object) -> int:
    return needed_descriptors(Config.model_validate({**SMALL, **changes}))


def test_every_limit_counts() -> None:
    least = needed()
    assert needed(limits={"pool_size": 21}) == least + 1
    assert needed(limits={"reserve_pool_size": 3}) == least + 2 * 3
    assert needed(listen={"max_client_conn": 101}) == least + 1
    assert needed(listen={"max_client_conn": 100, "max_login_conn": 7}) == least + 7


def test_it_is_said_what_does_not_fit() -> None:
    config = Config.model_validate(SMALL)
    enough = needed_descriptors(config)
    assert missing_descriptors(config, enough) is None
    lack = missing_descriptors(config, enough - 1)
    assert lack is not None
    assert str(enough) in lack and str(enough - 1) in lack and "ulimit" in lack


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard - 1, hard))
        assert raise_descriptor_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
