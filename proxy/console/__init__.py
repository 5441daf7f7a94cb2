"""How does an operator see and steer it? The admin database; metrics, health, the status page."""

from proxy.console.exporter import ExporterMetrics
from proxy.console.http import HttpEndpoint
from proxy.console.others import Told
from proxy.console.page import StatusPage
from proxy.console.reception import Reception
from proxy.console.scene import Pin, Scene
from proxy.console.status import Picture, Pinned, render_status
from proxy.console.steering import Levers, Shutdown, Steering

__all__ = [
    "ExporterMetrics",
    "HttpEndpoint",
    "Levers",
    "Picture",
    "Pin",
    "Pinned",
    "Reception",
    "Scene",
    "Shutdown",
    "StatusPage",
    "Steering",
    "Told",
    "render_status",
]
