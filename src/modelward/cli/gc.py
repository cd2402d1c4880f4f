"""The `modelward gc` command."""

import re
from pathlib import Path
from typing import Annotated

import typer

from modelward.cli.operating import explained, server_room, stop

__all__ = ["register"]

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([hdw])")
_SECONDS = {"h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def _age(text: str) -> float:
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        stop(f"--older-than: expected an age such as 12h, 30d or 4w; got {text!r}")
    return float(found[1]) * _SECONDS[found[2]]


def _gc(
    older_than: Annotated[str, typer.Option(help="Age of what goes: 12h, 30d, 4w.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only.")] = False,
    data: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file of the service.")] = None,
) -> None:
    """Remove old uploads and artifacts, and files that belong to nobody; safe beside a server.

    Jobs keep their state, score and parameters. Waiting and running jobs are left alone.
    """
    seconds = _age(older_than)
    rooms, settings = server_room("modelward.jobs"), server_room("modelward.settings")
    with explained():
        found = rooms.collect(settings.load_settings(config, data=data), seconds, dry_run=dry_run)
    typer.echo(
        f"{'Would remove' if dry_run else 'Removed'} {found.files} files, "
        f"{found.bytes / 2**20:.1f} MiB: those of {found.jobs} jobs and of {found.models} "
        "registrations that were never analysed, and files that belong to nobody"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("gc")(_gc)
