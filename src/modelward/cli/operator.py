"""What the commands for the operator of a data folder share."""

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from modelward.jobs import Operator

__all__ = ["USAGE", "operator_for", "stop"]

USAGE = 2


def stop(message: str, code: int = USAGE) -> NoReturn:
    """End the command with a message for people."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def operator_for(config: Path | None, data: Path | None) -> "Operator":
    """The operator of the data folder that settings and options name."""
    try:
        from modelward.jobs import Operator
        from modelward.settings import load_settings
    except ModuleNotFoundError as error:
        stop(f"{error}. The service needs: pip install 'modelward[server]'")
    from modelward.domain import ModelwardError

    try:
        return Operator(load_settings(config, data=data))
    except ModelwardError as error:
        stop(error.message)
