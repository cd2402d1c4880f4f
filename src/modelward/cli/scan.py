"""The `modelward scan` command."""

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from modelward.cli.exit_codes import ExitCode, code_for
from modelward.client import MissingExtraError
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
_SQLITE = "sqlite:///"


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
        float | None,
        typer.Option(
            min=1,
            help="Stop after so long; the rest counts as not read. Default: 40 seconds and 2 for "
            "every MiB, at most 600.",
        ),
    ] = None,
) -> None:
    """Scan model files without loading anything in them.

    Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 wrong use, 3 something could not be
    read (whatever else was found).
    """
    try:
        code = _scanned(target, as_json=as_json, sarif=sarif, fail_on=fail_on, seconds=seconds)
    except ModelwardError as error:
        _tell(error.message)
        code = code_for(error)
    except KeyboardInterrupt:
        _tell("Interrupted; nothing is known about what was not read.")
        code = ExitCode.INCOMPLETE
    except Exception as error:
        # Python's own exit code 1 would read as findings.
        if os.environ.get("MODELWARD_DEBUG"):
            traceback.print_exc()
        _tell(f"Error: {type(error).__name__}: {error} (MODELWARD_DEBUG=1 shows where)")
        code = ExitCode.INCOMPLETE
    raise typer.Exit(code)


def _tell(message: str) -> None:
    """Print an error; where nobody reads it, the exit code still counts."""
    with suppress(BrokenPipeError):
        typer.echo(message, err=True)


def _scanned(
    target: str, *, as_json: bool, sarif: Path | None, fail_on: Level, seconds: float | None
) -> ExitCode:
    """Scan, write and print the report."""
    with _local(target) as path:
        report = scan_path(path, limits=Limits.of_path(path, seconds))
    if sarif:
        try:
            sarif.write_text(to_sarif(report), "utf-8")
        except OSError as error:
            raise InvalidInputError(f"--sarif: expected a file to write to; got {error}") from error
    try:
        if as_json:
            typer.echo(to_json(report))
        else:
            _show(report)
    except BrokenPipeError:
        # Whoever read has seen enough (`| head`); what is left must not fail once more at the end.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return _code(report, fail_on)


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
    from modelward.mlflow.tracking import import_mlflow, quiet

    try:
        mlflow = import_mlflow()
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
    except (ImportError, MissingExtraError) as error:
        raise MissingExtraError(
            f'scan: {uri} needs MLflow, which is not installed: pip install "modelward[mlflow]"'
        ) from error
    try:
        with quiet():
            _check_store(uri, mlflow.get_registry_uri())
            return Path(download_artifacts(artifact_uri=uri, dst_path=folder))
    except (MlflowException, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InvalidInputError(
            f"scan: expected a model that MLflow can download from {uri}; got the error: "
            f"{first[:300]}; check the name and MLFLOW_TRACKING_URI"
        ) from error


def _check_store(uri: str, registry: str) -> None:
    """MLflow would make an empty store in the working directory, and find nothing in it."""
    if any(os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")):
        return
    if registry.startswith(_SQLITE) and not os.path.exists(registry.removeprefix(_SQLITE)):
        raise InvalidInputError(
            f"scan: expected a model registry for {uri}; neither MLFLOW_TRACKING_URI nor "
            "MLFLOW_REGISTRY_URI is set, and there is no mlflow.db or mlruns in the working "
            "directory. Set one of them to the address of your MLflow server or store"
        )


class _Console(Console):
    """A console that leaves the exit code to us where nobody reads on; rich's own ends with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _show(report: ScanReport) -> None:
    console = _Console(soft_wrap=False)
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
    rest = "" if report.complete or report.verdict == "incomplete" else ", not complete"
    counts = ", ".join(f"{count} {name}" for name, count in report.coverage().items())
    console.print(f"Verdict: [bold]{report.verdict}[/]{rest} ({counts}; {report.seconds:.1f} s)")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("scan")(scan)
