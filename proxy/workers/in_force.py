"""What does one process go by? A configuration, with what was made of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.auth import USUAL_SECRET, Admission, Roster, Verifiers
from proxy.client import Directory, DoorTerms
from proxy.cluster import NodeAddress
from proxy.config import Config
from proxy.server import Passwords, Place
from proxy.tasks import in_thread
from proxy.workers.encryption import Contexts, read_contexts
from proxy.workers.terms import read_inquiry, read_places, read_roster, read_terms


@dataclass(frozen=True, slots=True)
class InForce:
    """Replaced as a whole by a reload.

    whole: the configuration of all processes, of which `config` is this one's. terms: on which
    clients come in. contexts: TLS towards nodes. places: how to make places of
    nodes, by cluster. directory: asks databases for users, None where nobody is asked.
    """

    whole: Config
    config: Config
    roster: Roster
    terms: DoorTerms
    contexts: Contexts
    places: Mapping[str, Callable[[NodeAddress], Place]]
    directory: Directory | None


def read_in_force(
    whole: Config,
    config: Config,
    admission: Admission,
    passwords: Passwords,
    *,
    primary_of: Callable[[str], NodeAddress | None],
    before: InForce | None = None,
) -> InForce:
    """Make of a configuration what a process goes by. Raises OSError, ssl.SSLError.

    config: of the whole, what this process has.
    before: what it went by until now, of which is kept what may be.
    """
    directory = None if before is None else before.directory
    inquiry = read_inquiry(config, passwords)
    if inquiry != (directory and directory.inquiry):
        directory = None if inquiry is None else Directory(inquiry, primary_of, time.monotonic)
    roster = read_roster(config)
    contexts = read_contexts(config, {} if before is None else before.contexts)
    return InForce(
        whole,
        config,
        roster,
        read_terms(config, roster, admission, directory),
        contexts,
        read_places(config, contexts),
        directory,
    )


async def prepare(in_force: InForce, verifiers: Verifiers) -> None:
    """Make verifiers and decoys ready for its users."""
    methods = in_force.terms.admission.rules.methods
    await in_thread(
        in_force.roster.prepare,
        verifiers,
        derive=not methods.isdisjoint(("scram-sha-256", "password")),
        beside=(USUAL_SECRET,) if in_force.config.has_query else (),
    )
