"""How many processes, and who is in charge? The composition root.

`serve` builds a `Worker` and runs it until it is told to stop; `Supervisor` looks after several
processes that do so.
"""

from proxy.workers.background import become, detach, let_go_of_terminal
from proxy.workers.pidfile import claimed, running_pid
from proxy.workers.serve import serve
from proxy.workers.share import Share
from proxy.workers.supervisor import Supervisor
from proxy.workers.systemd import handed_over

__all__ = [
    "Share",
    "Supervisor",
    "become",
    "claimed",
    "detach",
    "handed_over",
    "let_go_of_terminal",
    "running_pid",
    "serve",
]
