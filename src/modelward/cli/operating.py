"""What the commands that work on a data folder have in common."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

__all__ = ["explained", "server_room", "stop"]

_USAGE = 2


def stop(message: str, code: int = _USAGE) -> NoReturn:
    """Print an error and end the command."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def server_room(name: str) -> Any:
    """Import a module of the service, or say what to install."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        stop(f"{error}. This command needs: pip install 'modelward[server]'")


@contextmanager
def explained() -> Iterator[None]:
    """Print what Modelward refuses as one message, with exit code 2; files made are private.

    For commands that have imported the service already.
    """
    from modelward.domain import ModelwardError
    from modelward.storage import private_files

    try:
        with private_files():
            yield
    except ModelwardError as error:
        stop(error.message)
