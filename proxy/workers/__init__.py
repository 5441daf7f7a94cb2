"""How many processes, and who is in charge? The composition root.

So far there is one process: `serve` builds a `Worker` and runs it until it is told to stop.
"""

from proxy.workers.serve import serve

__all__ = ["serve"]
