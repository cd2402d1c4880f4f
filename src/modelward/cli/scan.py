"""The `modelward scan` command."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modelward.cli.exit_codes import ExitCode, code_for
from modelward.domain import InvalidInputError, ModelwardError
from modelward.scan import Level, Limits, ScanReport, scan_path, to_json, to_sarif

__all__ = ["register"]

_COLOURS = {
    Level.INFO: "dim",
    Level.LOW: "cyan",
    Level.MEDIUM: "yellow",
    Level.HIGH: "red",
    Level.CRITICAL: "bold red",
}
_SHOWN = 200


def scan(
    target: Annotated[
        str,
        typer.Argument(help="A file, a folder, or a registered model (models:/name/version)."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    sarif: Annotated[
        Path | None, typer.Option(help="Also write the report as SARIF 2.1.0 to this file.")
    ] = None,
    fail_on: Annotated[
        Level, typer.Option(help="Least severity of a finding for exit code 1.")
    ] = Level.MEDIUM,
    seconds: Annotated[
        float, typer.Option(min=1, help="Stop after so long; the rest counts as not read.")
    ] = 600.0,
) -> None:
    """Scan model files without loading anything in them.

    Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 wrong use, 3 something could not be
    read (whatever else was found).
    """
    try:
        with _local(target) as path:
            report = scan_path(path, limits=Limits(seconds=seconds))
    except ModelwardError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(code_for(error)) from error
    if sarif:
        try:
            sarif.write_text(to_sarif(report), "utf-8")
        except OSError as error:
            typer.echo(f"--sarif: expected a file to write to; got {error}", err=True)
            raise typer.Exit(ExitCode.USAGE) from error
    if as_json:
        typer.echo(to_json(report))
    else:
        _show(report)
    raise typer.Exit(_code(report, fail_on))


def _code(report: ScanReport, fail_on: Level) -> ExitCode:
    if not report.complete:
        return ExitCode.INCOMPLETE
    return ExitCode.FINDINGS if report.at_least(fail_on) else ExitCode.DONE


@contextmanager
def _local(target: str) -> Iterator[Path]:
    """The target as a path; a registered model is downloaded and removed again."""
    if not target.startswith("models:"):
        yield Path(target)
        return
    with tempfile.TemporaryDirectory(prefix="modelward-") as folder:
        yield _download(target, folder)


def _download(uri: str, folder: str) -> Path:
    try:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        from modelward.client import MissingExtraError

        raise MissingExtraError(
            f'scan: {uri} needs MLflow, which is not installed: pip install "modelward[mlflow]"'
        ) from error
    try:
        return Path(download_artifacts(artifact_uri=uri, dst_path=folder))
    except (MlflowException, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidInputError(
            f"scan: expected a model that MLflow can download from {uri}; got the error: "
            f"{first[:300]}; check the name and MLFLOW_TRACKING_URI"
        ) from error


def _show(report: ScanReport) -> None:
    console = Console(soft_wrap=False)
    if report.findings:
        table = Table("Severity", "Rule", "Location", "Finding")
        for finding in report.findings[:_SHOWN]:
            colour = _COLOURS[finding.severity]
            table.add_row(
                f"[{colour}]{finding.severity}[/]", finding.rule,
                escape(finding.location), escape(finding.reason),
            )  # fmt: skip
        console.print(table)
        if len(report.findings) > _SHOWN:
            console.print(f"and {len(report.findings) - _SHOWN} more; --json lists all")
    if report.unread:
        table = Table("Not read", "Format", "Why")
        for part in report.unread[:_SHOWN]:
            table.add_row(escape(part.path), part.format, escape("; ".join(part.reasons)))
        console.print(table)
    for note in report.notes:
        console.print(f"Note: {escape(note)}")
    counts = ", ".join(f"{count} {name}" for name, count in report.coverage().items())
    console.print(
        f"Verdict: [bold]{report.verdict}[/]{'' if report.complete else ', not complete'} "
        f"({counts}; {report.seconds:.1f} s)"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("scan")(scan)
