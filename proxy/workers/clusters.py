"""Which nodes serve each cluster, as one process has it?

Every cluster has a monitor that looks at its nodes and a failover that acts on what is seen. What
comes of it is published here: to the pools, which connect to nodes; to those who listen; and to
the routing, which asks how fresh a replica is.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from proxy.channels import Hub
from proxy.channels import Place as ChannelPlace
from proxy.cluster import ClusterView, Monitor, NodeAddress, ProbeLogin, cast_nodes
from proxy.config import Cluster, Config, Policy
from proxy.errors import ClientError
from proxy.failover import Event, EventLog, Failover, Hands, Member
from proxy.pool import NodePlace, Reservoir
from proxy.relay import Client, Relay, WriteTimes
from proxy.server import Passwords
from proxy.workers.in_force import InForce
from proxy.workers.switchboard import Switchboard
from proxy.workers.terms import (
    ask_password,
    new_monitor,
    probe_login,
    read_failover,
    read_lease,
    room_of,
)


class Clusters:
    """The clusters of one process. `attend` before `start`.

    in_force: what is in force. room: this process's part of a limit on server connections. member:
    this process among those that change roles. tell_of: tells the others of a cluster.
    tell_code: tells them that functions in a database of a cluster have changed.
    times: where the processes of the proxy tell each other what was written.
    """

    def __init__(
        self,
        in_force: Callable[[], InForce],
        passwords: Passwords,
        *,
        room: Callable[[int], int],
        times: WriteTimes,
        member: Member,
        tell_of: Callable[[str, Mapping[str, Any]], Awaitable[Sequence[object]]],
        tell_code: Callable[[str, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._in_force = in_force
        self._passwords = passwords
        self._room = room
        self._member = member
        self._tell_of = tell_of
        self._monitors: dict[str, Monitor] = {}
        self._failovers: dict[str, Failover] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._events = EventLog(time.time)
        config = in_force().config
        self.switchboard = Switchboard(
            config,
            times=times,
            shares_keys=config.redis is not None,
            primary_of=self.primary_of,
            login_of=self._login_of,
            pace=lambda name, interval_s: self._monitors[name].set_interval(interval_s),
            on_rotation=lambda name: self._failovers[name].see(self._monitors[name].view),
            on_code=tell_code,
            clock=clock,
        )
        for name, cluster in config.clusters.items():
            self._watch_over(name, cluster)

    def attend(self, reservoir: Reservoir, relay: Relay, hub: Hub) -> None:
        """Say who is told what is seen."""
        self._reservoir, self._relay, self._hub = reservoir, relay, hub

    def start(self) -> None:
        """Begin to watch, in this event loop."""
        for name in self._monitors:
            # Where no role decides, nodes serve before the first probe has ended.
            if self._config.clusters[name].serve_from != "primary":
                self._publish(self._monitors[name].view)
            self._begin_to_watch(name)

    def stop(self) -> list[asyncio.Task[None]]:
        """Watch no more. Result: tasks that are about to end."""
        for task in self._watching.values():
            task.cancel()
        return [*self._watching.values(), *self.switchboard.close()]

    def tick(self) -> None:
        """Now and then, many times a second."""
        self.switchboard.tick({name: each.view for name, each in self._monitors.items()})

    def adopt(self, before: Config, *, is_redialled: bool) -> None:
        """Go over to what is in force now. is_redialled: all nodes are other places than before."""
        config = self._config
        self.switchboard.adopt(config)
        for name in set(self._monitors) - set(config.clusters):
            del self._monitors[name], self._failovers[name]
            self._watching.pop(name).cancel()
            self._reservoir.publish(name, ())
        for name, cluster in config.clusters.items():
            is_same = name in before.clusters and before.clusters[name] == cluster
            if not is_same or before.monitor_login(name) != config.monitor_login(name):
                self._watch_anew(name, cluster)
            elif is_redialled:
                self._failovers[name].see(self._monitors[name].view)

    # --- watching ------------------------------------------------------------------------------

    @property
    def _config(self) -> Config:
        return self._in_force().config

    def _watch_over(self, name: str, cluster: Cluster) -> None:
        """A cluster's monitor, and who acts on what it sees; both know what those before knew."""
        before = self._monitors.get(name)
        login = self._login_of(name, cluster.monitor.dbname)
        lease = read_lease(name, cluster, self._member, partial(self._tell_of, name))
        if name in self._failovers:
            self._failovers[name].adopt(read_failover(cluster), login, lease)
        else:
            hands = Hands(self._publish, self._cut, self._count_servers)
            self._failovers[name] = Failover(
                name,
                read_failover(cluster),
                login,
                hands,
                lease=lease,
                events=self._events,
                clock=time.monotonic,
            )
        failover = self._failovers[name]
        self._monitors[name] = new_monitor(
            name,
            cluster,
            login,
            publish=failover.see,
            observe=self._observe,
            known=None if before is None else before.view,
        )
        failover.watch(self._monitors[name])

    def _login_of(self, cluster: str, dbname: str) -> ProbeLogin:
        whom = self._config.monitor_login(cluster)
        return probe_login(self._config.clusters[cluster], whom, dbname, self._passwords)

    def _observe(self, view: ClusterView) -> None:
        self.switchboard.observe(view, self._reservoir)
        self._relay.unpark()

    def _watch_anew(self, name: str, cluster: Cluster) -> None:
        """A cluster has changed."""
        if name in self._watching:
            self._watching[name].cancel()
        self._watch_over(name, cluster)
        self._failovers[name].see(self._monitors[name].view)
        self._begin_to_watch(name)

    def _begin_to_watch(self, name: str) -> None:
        self._watching[name] = asyncio.get_running_loop().create_task(self._watch(name))

    async def _watch(self, name: str) -> None:
        """Task: watch a cluster and act, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._monitors[name].run())
            group.create_task(self._failovers[name].run())

    # --- what is seen --------------------------------------------------------------------------

    @property
    def views(self) -> Sequence[ClusterView]:
        """The newest picture of each."""
        return [monitor.view for monitor in self._monitors.values()]

    @property
    def failovers(self) -> Sequence[Failover]:
        """Who acts on it, for each."""
        return list(self._failovers.values())

    def events(self) -> list[Event]:
        """What was decided about clusters, when and why; oldest first."""
        return self._events.read()

    def why_not_ready(self) -> str | None:
        """None while every cluster has a primary, else what is missing."""
        for name, monitor in self._monitors.items():
            if self._config.clusters[name].serve_from != "primary":
                if all(node.state == "down" for node in monitor.view.nodes):
                    return f"cluster {name} has no node that answers"
            elif monitor.view.primary is None:
                return f"cluster {name} has no primary: {monitor.view.reason}"
        return None

    def primary_of(self, cluster: str) -> NodeAddress | None:
        """The node that takes writes."""
        if cluster not in self._monitors:
            return None
        serve_from = self._config.clusters[cluster].serve_from
        serving = cast_nodes(self._monitors[cluster].view, serve_from)
        return next((node.address for node, part in serving if part == "primary"), None)

    def poke(self, cluster: str, node: str) -> None:
        """Look at a node now: something is wrong with it."""
        if cluster in self._monitors:
            self._monitors[cluster].poke(node)

    async def failover(self, cluster: str, node: str | None = None) -> str:
        """Make another node the primary of a cluster. Result: what was done. Raises ClientError."""
        if cluster not in self._failovers:
            raise ClientError("42704", f"there is no cluster {cluster}")
        return await self._failovers[cluster].switch_over(node)

    def hear(self, cluster: str, told: Mapping[str, Any]) -> object:
        """What another process says of a cluster whose roles it changes. Result: the answer."""
        return self._failovers[cluster].hear(told) if cluster in self._failovers else None

    def _publish(self, view: ClusterView) -> None:
        places = self._in_force().places
        if view.name not in places:
            return
        make_place = places[view.name]
        cluster = self._config.clusters[view.name]
        primary = view.primary_node
        # While there is none to fall behind, a replica without a receiver is as fresh as any.
        lets_stale_read = primary is None or primary.state != "up"
        nodes = tuple(
            NodePlace(
                node.name,
                make_place(node.address),
                part,
                node.address.roles,
                node.state in ("up", "suspect")
                and (
                    lets_stale_read
                    or (not node.stale and self.switchboard.why_out(view.name, node.name) is None)
                ),
                self._room(room_of(node, cluster)),
                node.state == "up",
                node.address.weight,
                node.address.zone is not None and node.address.zone == cluster.replicas.zone,
            )
            for node, part in cast_nodes(view, cluster.serve_from)
        )
        self._reservoir.publish(view.name, nodes)
        self._hub.look(view.name)

    def _cut(self, cluster: str, node: str, reason: str) -> None:
        """End every server connection to a node: whoever uses one gets an error and goes on."""
        if self._config.clusters[cluster].serve_from != "primary":
            return
        for server in self._reservoir.servers_on(cluster, node):
            server.lose(reason.encode())

    def _count_servers(self, cluster: str, node: str) -> int:
        return len(self._reservoir.servers_on(cluster, node))

    # --- whose a client is ---------------------------------------------------------------------

    def policy_of(self, client: Client) -> Policy | None:
        """What holds for a client."""
        return self._config.policy(client.line.database, client.line.user)

    def channel_place(self, client: Client) -> ChannelPlace | None:
        """Where a client listens."""
        policy = self.policy_of(client)
        return None if policy is None else ChannelPlace(policy.cluster, policy.dbname)

    def ear_login(self, place: ChannelPlace) -> ProbeLogin:
        """As whom to listen: as the proxy logs in to its nodes, else as the monitor."""
        cluster = self._config.clusters[place.cluster]
        user, password = cluster.server.user, cluster.server.password
        if user is None:
            user, password = cluster.monitor_login
        asked = ask_password(cluster, user, self._passwords)
        return ProbeLogin(
            user, str(password or "") or asked or "", place.dbname, cluster.server.tls
        )

    def notifier_of(self, place: ChannelPlace, pid: int) -> int:
        """Which client said NOTIFY last in that session of the primary, 0 if that is not known."""
        primary = self.primary_of(place.cluster)
        if primary is None:
            return 0
        servers = self._reservoir.servers_on(place.cluster, primary.name)
        return next((server.notifier for server in servers if server.pid == pid), 0)
