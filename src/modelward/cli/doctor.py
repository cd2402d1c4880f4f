"""The `modelward doctor` command."""

import json
from pathlib import Path
from typing import Annotated

import typer

from modelward.cli.exit_codes import ExitCode

__all__ = ["register"]


def _doctor(
    data: Annotated[Path | None, typer.Option(help="Data folder of the service.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file of the service.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what this machine offers: packages, data folder, sandbox, interpreters, disk, clock.

    Exits with 0 where everything that Modelward can do works here, with 3 where something does
    not; what is missing is named with the way to get it.
    """
    try:
        from modelward.jobs.diagnosis import diagnose
        from modelward.settings import load_settings
    except ModuleNotFoundError as error:
        typer.echo(f"{error}. The service needs: pip install 'modelward[server]'", err=True)
        raise typer.Exit(ExitCode.USAGE) from error
    from modelward.domain import ModelwardError

    try:
        checks = diagnose(load_settings(config, data=data))
    except ModelwardError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(ExitCode.USAGE) from error
    fine = all(check.fine for check in checks)
    if as_json:
        rows = [{"check": c.name, "state": c.state, "found": c.found, "fix": c.fix} for c in checks]
        typer.echo(json.dumps({"fine": fine, "checks": rows}, indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{check.state:<8}{check.name:<{width}}  {check.found}")
        for check in checks:
            if check.fix:
                typer.echo(f"\n{check.name}: {check.fix}")
    raise typer.Exit(ExitCode.DONE if fine else ExitCode.INCOMPLETE)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("doctor")(_doctor)
