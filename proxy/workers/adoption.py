"""How does one process go over to another configuration, and to files that somebody has replaced?

Certificates of TLS are made anew from what is there; passwords that stand in files of their own are
read again; everything else waits until a reload is asked for.
"""

import asyncio
import logging
import os
from collections.abc import Callable

from proxy.auth import Verifiers, read_admission
from proxy.client import Door
from proxy.cluster import NodeAddress
from proxy.config import (
    Change,
    Config,
    ConfigError,
    changes_between,
    reload_secrets,
    secret_files,
)
from proxy.console import Steering
from proxy.errors import ClientError
from proxy.pool import Reservoir
from proxy.server import Passwords
from proxy.tasks import in_thread
from proxy.telemetry import LimitedLog, keep_event, report
from proxy.watch import Watch
from proxy.workers.clusters import Clusters
from proxy.workers.company import Company
from proxy.workers.encryption import asked_of_nodes
from proxy.workers.in_force import prepare, read_in_force
from proxy.workers.terms import open_log, read_tcp

_log = logging.getLogger("pgweir")


class Adoption:
    """Keeps what is in force. `attend` before anything is adopted.

    primary_of: a cluster's primary now. bugs: where is said why files could not be used.
    Raises ConfigError, OSError, ssl.SSLError where the configuration cannot be used.
    """

    def __init__(
        self,
        config: Config,
        company: Company,
        passwords: Passwords,
        verifiers: Verifiers,
        *,
        primary_of: Callable[[str], NodeAddress | None],
        bugs: LimitedLog,
    ) -> None:
        self._company = company
        self._passwords = passwords
        self._verifiers = verifiers
        self._primary_of = primary_of
        self._bugs = bugs
        self.in_force = read_in_force(
            config, company.part(config), read_admission(config), passwords, primary_of=primary_of
        )
        self._secrets = Watch(secret_files(config))
        self._lock = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    def attend(
        self, door: Door, clusters: Clusters, reservoir: Reservoir, steering: Steering
    ) -> None:
        """Say who goes over with it."""
        self._door, self._clusters, self._reservoir = door, clusters, reservoir
        self._steering = steering

    @property
    def config(self) -> Config:
        """The configuration in force, of all processes."""
        return self.in_force.whole

    async def prepare(self) -> None:
        """Make ready what logins need."""
        await prepare(self.in_force, self._verifiers)

    def stop(self) -> list[asyncio.Task[None]]:
        """Read no more, and ask no database for users. Result: tasks that are about to end."""
        if self.in_force.directory is not None:
            self.in_force.directory.close()
        if self._reading is None:
            return []
        self._reading.cancel()
        return [self._reading]

    def tick(self) -> None:
        """Once a second: forget what is old, and use the files that somebody has replaced."""
        self.in_force.terms.judges.tick()
        if self.in_force.directory is not None:
            self.in_force.directory.tick()
        self._look_at_files()

    def _look_at_files(self) -> None:
        in_force = self.in_force
        asked = (in_force.contexts[tls] for tls in asked_of_nodes(in_force.config))
        for each in (in_force.terms.tls, *asked):
            if each is not None:
                each.look()
        if self._secrets.has_changed() and not self._lock.locked():
            self._reading = asyncio.get_running_loop().create_task(self._read_secrets())

    async def adopt(self, config: Config) -> tuple[Change, ...]:
        """Go over to another configuration of all processes, as `_go_over`; one at a time."""
        async with self._lock:
            return await self._go_over(config)

    async def _go_over(self, whole: Config) -> tuple[Change, ...]:
        """Go over to another configuration. Result: what has changed, and when it holds.

        Nobody is disconnected: users and TLS hold for the next login, limits at once, and server
        connections to what is no longer right are closed as they become free.
        Raises ConfigError when a rule for logins is wrong, OSError or ssl.SSLError when a TLS file
        is unusable; then nothing has changed.
        """
        before, config = self.in_force, self._company.part(whole)
        admission = await in_thread(read_admission, config)
        new = read_in_force(
            whole, config, admission, self._passwords, primary_of=self._primary_of, before=before
        )
        await prepare(new, self._verifiers)
        open_log(config.log)
        self.in_force = new
        self._secrets = Watch(secret_files(config))
        tcp = read_tcp(config)
        is_redialled = read_tcp(before.config) != tcp
        if is_redialled:
            self._door.adopt(tcp)
        if before.directory is not None and before.directory is not new.directory:
            before.directory.close()
        self._clusters.adopt(before.config, is_redialled=is_redialled)
        self._reservoir.adopt()
        return changes_between(before.whole, whole)

    async def _read_secrets(self) -> None:
        """Task: passwords in files have changed; use them, or say why not and try again."""
        try:
            async with self._lock:
                watch = self._secrets
                config = await in_thread(reload_secrets, self.config, os.environ)
                watch.settle()
                config = self._steering.with_changes(config)
                if config == self.config:
                    return
                await self._go_over(config)
        except (ConfigError, ClientError, OSError, ValueError) as wrong:
            facts = {"reason": str(wrong)}
            said = "passwords cannot be read, the old ones stay"
            self._bugs.log(logging.ERROR, said, facts)
            keep_event("files", said, facts, logging.ERROR)
        except Exception as bug:  # noqa: BLE001 -- top of a task
            self._bugs.log(logging.ERROR, "reading passwords again failed", {}, bug)
        else:
            report(_log, "files", "passwords read again", {"files": len(watch.files)})
