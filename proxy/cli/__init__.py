"""The command line. Thin: every command is a few lines over another room.

`main` knows the names of the commands and loads the one that is asked for, so that `--help` and
`check` do not wait for what only `run` needs. Exit codes: 0 success, 1 runtime failure, 2 bad
usage or configuration.
"""

from importlib import import_module

import click

from proxy import __version__

# Command -> the module that has it, under its own name, and the line `--help` shows. The line
# stands here so that `--help` need not load them all.
_COMMANDS = {
    "run": ("proxy.cli.run", "Serve."),
    "check": (
        "proxy.cli.check",
        "Say what is wrong with a file, or what a statement would do.",
    ),
    "convert": ("proxy.cli.convert", "Print a pgbouncer.ini as YAML."),
    "demo": ("proxy.cli.demonstrate", "Serve a temporary PostgreSQL with streaming replicas."),
    "schema": ("proxy.cli.schema", "Print the JSON Schema of the configuration."),
    "top": ("proxy.cli.top", "Show what a proxy does, in the terminal."),
    "drain": ("proxy.cli.drain", "Empty a proxy before it is stopped."),
    "ctl": ("proxy.cli.ctl", "Send an admin command to a proxy that runs."),
}


class _Commands(click.Group):
    """The commands of the table above, each loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command, or None when there is no such command."""
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 -- the table is ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="pgweir")
def main() -> None:
    """Proxy PostgreSQL: pool connections, route statements, follow failovers."""
