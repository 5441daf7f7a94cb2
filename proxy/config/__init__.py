"""What did the operator ask for? The model of the configuration, and how it is read. Pure.

`load` reads a file, `from_environment` reads `DATABASE_URL`, and both give a frozen `Config` or a
`ConfigError` that lists everything wrong with it. `Config.policy` resolves what holds for one user
in one database. Durations are float seconds, sizes int bytes, secrets do not show in a repr.
Only `load` touches the disk.
"""

from proxy.config.access import DEFAULT_QUERY, Auth, User
from proxy.config.audit import Audit, AuditClass, AuditRule, Traces
from proxy.config.availability import missing_part
from proxy.config.change import Change, changes_between, needs_restart
from proxy.config.databases import Database, Match, Route
from proxy.config.elsewhere import Ldap, Oauth, Pam, is_private_url
from proxy.config.environment import from_environment
from proxy.config.limits import Limits, Overrides
from proxy.config.listening import ClientTls, Http, HttpAuth, Listen, Log, Process
from proxy.config.load import (
    convert,
    files_of,
    load,
    missing_service,
    parse,
    reload,
    reload_secrets,
    secret_files,
)
from proxy.config.model import Config, Flags, Origin
from proxy.config.policy import PasswordSource, Policy, source_of
from proxy.config.problems import ConfigError, Problem
from proxy.config.quantities import format_duration, format_size, parse_duration, parse_size
from proxy.config.schema import json_schema
from proxy.config.secret import Secret
from proxy.config.section import KeyPath, PoolMode, Section, TlsMode
from proxy.config.setting import is_changeable, with_value
from proxy.config.share import divide, part_of
from proxy.config.topology import (
    Cluster,
    Failover,
    Monitor,
    Node,
    Patroni,
    Replicas,
    ServerLogin,
    ServerTls,
)

__all__ = [
    "DEFAULT_QUERY",
    "Audit",
    "AuditClass",
    "AuditRule",
    "Auth",
    "Change",
    "ClientTls",
    "Cluster",
    "Config",
    "ConfigError",
    "Database",
    "Failover",
    "Flags",
    "Http",
    "HttpAuth",
    "KeyPath",
    "Ldap",
    "Limits",
    "Listen",
    "Log",
    "Match",
    "Monitor",
    "Node",
    "Oauth",
    "Origin",
    "Overrides",
    "Pam",
    "PasswordSource",
    "Patroni",
    "Policy",
    "PoolMode",
    "Problem",
    "Process",
    "Replicas",
    "Route",
    "Secret",
    "Section",
    "ServerLogin",
    "ServerTls",
    "TlsMode",
    "Traces",
    "User",
    "changes_between",
    "convert",
    "divide",
    "files_of",
    "format_duration",
    "format_size",
    "from_environment",
    "is_changeable",
    "is_private_url",
    "json_schema",
    "load",
    "missing_part",
    "missing_service",
    "needs_restart",
    "parse",
    "parse_duration",
    "parse_size",
    "part_of",
    "reload",
    "reload_secrets",
    "secret_files",
    "source_of",
    "with_value",
]
