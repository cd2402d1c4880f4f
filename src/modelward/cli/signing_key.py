"""The `modelward signing-key` commands."""

from pathlib import Path
from typing import Annotated

import typer

from modelward.cli.operating import explained
from modelward.cli.operator import operator_for

__all__ = ["register"]


def _rotate(
    data: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file of the service.")] = None,
    drop_old: Annotated[
        bool,
        typer.Option(
            "--drop-old",
            help="Forget earlier keys at once; all links handed out so far stop working.",
        ),
    ] = False,
) -> None:
    """Sign links with a new key; a running server takes it up without a restart.

    Links that were signed before stay good until they expire.
    """
    operator = operator_for(config, data)
    with explained():
        done = operator.rotate_signing_key(drop_old=drop_old)
    typer.echo(
        f"New signing key in use; earlier keys still read: {done.retired}, removed: {done.dropped}"
    )


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(help="The key that signs links.", no_args_is_help=True)
    group.command("rotate")(_rotate)
    # A callback keeps `rotate` a subcommand although it is the only one.
    group.callback()(lambda: None)
    app.add_typer(group, name="signing-key")
