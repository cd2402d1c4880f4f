"""The `modelward org` commands."""

import json
from pathlib import Path
from typing import Annotated

import typer

from modelward.cli.operating import explained, server_room
from modelward.cli.operator import operator_for

__all__ = ["register"]


def _create(
    name: Annotated[str, typer.Argument(help="A name for people; need not be unique.")],
    data: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file of the service.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make an organisation; its id and API key are printed once and stored as hashes only."""
    rooms, settings = server_room("modelward.jobs"), server_room("modelward.settings")
    with explained():
        made = rooms.create_organisation(settings.load_settings(config, data=data), name)
    if as_json:
        typer.echo(
            json.dumps({"name": made.name, "org_id": made.organisation_id, "api_key": made.api_key})
        )
        return
    typer.echo(f"Organisation: {made.name}")
    typer.echo(f"Organisation id: {made.organisation_id}")
    typer.echo(f"API key: {made.api_key}")
    typer.echo("Keep both secret: they are not stored and will not be shown again.", err=True)


def _list(
    data: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file of the service.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the organisations with their numbers; their ids are secret and not stored."""
    operator = operator_for(config, data)
    with explained(), operator.tenants() as (tenants, _):
        found = tenants.all_unscoped()
    if as_json:
        typer.echo(json.dumps([{"number": item.number, "name": item.name} for item in found]))
        return
    for item in found:
        typer.echo(f"{item.number}  {item.name}")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(help="Organisations of the service.", no_args_is_help=True)
    group.command("create")(_create)
    group.command("list")(_list)
    app.add_typer(group, name="org")
