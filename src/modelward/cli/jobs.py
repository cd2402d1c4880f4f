"""The `modelward jobs` commands."""

from pathlib import Path
from typing import Annotated

import typer

from modelward.cli.operating import explained, server_room

__all__ = ["register"]


def _cancel(
    job_id: Annotated[str, typer.Argument(help="Id of a waiting or running job.")],
    data: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file of the service.")] = None,
) -> None:
    """End a job of any organisation; a running one ends within seconds."""
    rooms, settings = server_room("modelward.jobs"), server_room("modelward.settings")
    with explained():
        job = rooms.cancel_job(settings.load_settings(config, data=data), job_id)
    typer.echo(f"{job.id}: {job.message}")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(help="Jobs of the service.", no_args_is_help=True)
    group.command("cancel")(_cancel)
    # A callback keeps `cancel` a subcommand although it is the only one.
    group.callback()(lambda: None)
    app.add_typer(group, name="jobs")
