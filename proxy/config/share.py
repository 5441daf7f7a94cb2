"""What of a configuration one of several processes has. Pure.

What counts server connections is divided, so that all processes together open as many as the
configuration says, and one per pool at least. What counts clients is not: the kernel does not deal
them out evenly.
"""

from typing import Any

from proxy.config.limits import Overrides
from proxy.config.model import Config

# Key -> the least that a process needs.
_DIVIDED = {
    "pool_size": 1,
    "min_pool_size": 0,
    "reserve_pool_size": 0,
    "max_db_connections": 1,
    "max_user_connections": 1,
}


def divide(whole: int, index: int, count: int, least: int = 1) -> int:
    """The part of one process: equal ones, of which the first are greater by one; 0 stays 0."""
    if whole == 0:
        return 0
    return max(least, whole // count + (index < whole % count))


def part_of(config: Config, index: int, count: int) -> Config:
    """The configuration of process number `index` of `count`, from 0."""
    if count == 1:
        return config

    def divided(section: Any) -> Any:
        parts = {
            key: divide(getattr(section, key), index, count, least)
            for key, least in _DIVIDED.items()
            if getattr(section, key, None) is not None
        }
        return section.model_copy(update=parts) if parts else section

    def divided_all(sections: Any) -> dict[str, Overrides]:
        return {name: divided(each) for name, each in sections.items()}

    clusters = {}
    for name, cluster in config.clusters.items():
        nodes = tuple(
            node
            if node.max_connections is None
            else node.model_copy(
                update={"max_connections": divide(node.max_connections, index, count)}
            )
            for node in cluster.nodes
        )
        clusters[name] = cluster.model_copy(update={"nodes": nodes})
    auth = config.auth.model_copy(update={"users": divided_all(config.auth.users)})
    return config.model_copy(
        update={
            "limits": divided(config.limits),
            "databases": divided_all(config.databases),
            "auth": auth,
            "clusters": clusters,
        }
    )
