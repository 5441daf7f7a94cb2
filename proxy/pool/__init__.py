"""Who may use which server connection, now? Growth, shrinking and resets of relay pools."""

from proxy.pool.reservoir import NodePlace, Reservoir
from proxy.pool.welcome import Welcome

__all__ = ["NodePlace", "Reservoir", "Welcome"]
