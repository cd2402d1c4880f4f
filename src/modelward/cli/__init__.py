"""Command line: one file per command, heavy rooms imported only by the command that runs."""

import importlib
from typing import Annotated

import typer

from modelward._version import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    name="modelward",
    help="Assess machine-learning models for security weaknesses, on your own machine.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

_COMMANDS = (
    "serve",
    "org",
    "key",
    "audit",
    "signing_key",
    "jobs",
    "gc",
    "backup",
    "assess",
    "scan",
    "demo",
    "siem",
    "doctor",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"modelward {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Assess machine-learning models for security weaknesses, on your own machine."""


for _name in _COMMANDS:
    importlib.import_module(f"modelward.cli.{_name}").register(app)
