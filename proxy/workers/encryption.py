"""The TLS of the configuration, made: what clients see, and what is used towards nodes."""

import ssl
from collections.abc import Mapping
from functools import partial

from proxy.config import Config, ServerTls
from proxy.tls import Offer, Renewed, context_for_servers, offer_to_clients

Contexts = Mapping[str, Renewed[ssl.SSLContext] | None]
"""For nodes, by cluster; None where there is no TLS."""


def read_offer(config: Config) -> Renewed[Offer] | None:
    """The TLS that clients see."""
    tls = config.listen.tls
    if tls.mode == "disable":
        return None
    by_rule = config.auth.method in ("cert", "hba")
    return Renewed(
        (tls.cert, tls.key, tls.ca), lambda: offer_to_clients(tls, ask_for_certificate=by_rule)
    )


def read_contexts(config: Config, kept: Contexts, before: Config | None = None) -> Contexts:
    """The TLS contexts for the nodes, by cluster; None where there is no TLS.

    kept: those in use. before: their configuration. What it says already is not made anew, because
    a server reached with another context counts as another place.
    """
    sections = {} if before is None else _tls_of(before)
    return {
        name: kept[name] if tls == sections.get(name) else _read_context(tls)
        for name, tls in _tls_of(config).items()
    }


def _tls_of(config: Config) -> Mapping[str, ServerTls]:
    """What is asked of the nodes, by cluster."""
    return {name: cluster.server.tls for name, cluster in config.clusters.items()}


def _read_context(tls: ServerTls) -> Renewed[ssl.SSLContext] | None:
    """The TLS context for nodes; None where there is no TLS."""
    if tls.mode == "disable":
        return None
    return Renewed((tls.ca, tls.cert, tls.key), partial(context_for_servers, tls))
