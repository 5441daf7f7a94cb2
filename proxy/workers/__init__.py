"""How many processes, and who is in charge? The composition root.

So far there is one process: `serve` builds a `Worker` and runs it until it is told to stop.
"""

from proxy.workers.background import become, detach
from proxy.workers.pidfile import claimed, running_pid
from proxy.workers.serve import serve
from proxy.workers.systemd import handed_over

__all__ = ["become", "claimed", "detach", "handed_over", "running_pid", "serve"]
