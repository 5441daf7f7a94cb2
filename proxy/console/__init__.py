"""How does an operator see and steer it? The HTTP endpoint with /metrics and health."""

from proxy.console.http import HttpEndpoint

__all__ = ["HttpEndpoint"]
