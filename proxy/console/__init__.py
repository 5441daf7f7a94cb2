"""How does an operator see and steer it? The HTTP endpoint: metrics, health, the status page."""

from proxy.console.http import HttpEndpoint
from proxy.console.page import StatusPage
from proxy.console.status import Picture, Pinned, render_status

__all__ = ["HttpEndpoint", "Picture", "Pinned", "StatusPage", "render_status"]
