"""The `modelward backup` and `modelward restore` commands."""

from pathlib import Path
from typing import Annotated

import typer

from modelward.cli.operating import explained, server_room

__all__ = ["register"]


def _backup(
    target: Annotated[
        Path, typer.Argument(help="New folder, or new file that ends in .tar, .tar.gz or .tgz.")
    ],
    data: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file of the service.")] = None,
) -> None:
    """Save database, files and signing key as of one moment, while the service runs or not.

    Whoever holds the backup can read every uploaded model: it is readable by its owner only.
    """
    rooms, settings = server_room("modelward.jobs"), server_room("modelward.settings")
    with explained():
        made = rooms.make_backup(settings.load_settings(config, data=data).data, target)
    typer.echo(f"{made.path}: {made.files} files, {made.bytes / 2**20:.1f} MiB, {made.created}")


def _restore(
    source: Annotated[Path, typer.Argument(help="What `modelward backup` made.")],
    data: Annotated[Path, typer.Option(help="New or empty data folder.")],
) -> None:
    """Make a data folder from a backup, after checking every file in it."""
    rooms = server_room("modelward.jobs")
    with explained():
        made = rooms.restore_backup(source, data)
    typer.echo(f"{made.path}: {made.files} files, {made.bytes / 2**20:.1f} MiB, {made.created}")
    typer.echo(f"Start the service with: modelward serve --data {made.path}")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("backup")(_backup)
    app.command("restore")(_restore)
