"""`pgweir schema`: the shape of a configuration file, for editors and generators."""

import json

import click

from proxy.config import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    click.echo(json.dumps(json_schema(), indent=2))
