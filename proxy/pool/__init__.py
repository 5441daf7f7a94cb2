"""Who may use which server connection, now? Growth, shrinking and resets of relay pools."""

from proxy.pool.holds import EVERYTHING, Scope
from proxy.pool.nodes import NodePlace
from proxy.pool.reservoir import Reservoir
from proxy.pool.traffic import Traffic, all_of
from proxy.pool.welcome import Welcome

__all__ = ["EVERYTHING", "NodePlace", "Reservoir", "Scope", "Traffic", "Welcome", "all_of"]
