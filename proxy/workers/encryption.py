"""The TLS of the configuration, made: what clients see, and what is used towards nodes."""

import ssl
from collections.abc import Mapping
from functools import partial

from proxy.config import Config, ServerTls
from proxy.tls import Offer, Renewed, context_for_servers, offer_to_clients

Contexts = Mapping[ServerTls, Renewed[ssl.SSLContext] | None]
"""For nodes, by what is asked of them; None where there is no TLS."""


def read_offer(config: Config) -> Renewed[Offer] | None:
    """The TLS that clients see."""
    tls = config.listen.tls
    if tls.mode == "disable":
        return None
    by_rule = config.auth.method in ("cert", "hba")
    return Renewed(
        (tls.cert, tls.key, tls.ca), lambda: offer_to_clients(tls, ask_for_certificate=by_rule)
    )


def asked_of_nodes(config: Config) -> set[ServerTls]:
    """All TLS that is asked of nodes, by clusters or by single databases."""
    asked = {cluster.server.tls for cluster in config.clusters.values()}
    return asked | {
        each.server.tls for each in config.databases.values() if each.server is not None
    }


def read_contexts(config: Config, kept: Contexts) -> Contexts:
    """The TLS contexts for the nodes.

    kept: those made before. They are not made anew, because a server reached with another context
    counts as another place; and who is in a database that is gone is still served by them.
    """
    asked = asked_of_nodes(config) - kept.keys()
    return {**kept, **{tls: _read_context(tls) for tls in asked}}


def _read_context(tls: ServerTls) -> Renewed[ssl.SSLContext] | None:
    """The TLS context for nodes; None where there is no TLS."""
    if tls.mode == "disable":
        return None
    return Renewed((tls.ca, tls.cert, tls.key), partial(context_for_servers, tls))
