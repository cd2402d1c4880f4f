"""The `modelward assess` command."""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from modelward.cli.exit_codes import ExitCode, code_for
from modelward.cli.progress_view import show_progress
from modelward.cli.result_view import log_result, point_to_options, show_result
from modelward.client import (
    Assessment,
    Client,
    LocalService,
    Progress,
    ServiceUnreachableError,
)
from modelward.domain import (
    Access,
    AttackType,
    InvalidParameterError,
    ModelwardError,
    Severity,
    parse_analysis,
    parse_task,
)
from modelward.mlflow.tracking import import_mlflow

__all__ = ["register"]

_INPUT = "Files"
_ATTACK = "Attack"
_SERVICE = "Service"
_RESULT = "Result"


class ColorSpace(StrEnum):
    """Channel order that the model takes."""

    RGB = "rgb"
    BGR = "bgr"
    GRAY = "gray"


@dataclass(frozen=True, slots=True)
class _Service:
    url: str | None
    org_id: str | None = field(repr=False)
    api_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Ending:
    """What becomes of a result."""

    fail_on: Severity | None
    as_json: bool
    tracking_uri: str | None


def assess(
    *,
    model: Annotated[
        Path,
        typer.Option(help="Model file (.h5, .keras, .pkl), SavedModel folder, or a zip.",
                     rich_help_panel=_INPUT),
    ],
    data: Annotated[Path, typer.Option(help="Folder or zip of images.", rich_help_panel=_INPUT)],
    labels: Annotated[
        Path,
        typer.Option(help="csv with the columns image,label, or a zip.", rich_help_panel=_INPUT),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=_RESULT)],
    task: Annotated[
        str, typer.Option(help="Task of the model.", rich_help_panel=_INPUT)
    ] = "image_classification",
    analysis: Annotated[
        str, typer.Option(help="Weakness to look for.", rich_help_panel=_ATTACK)
    ] = "extraction",
    queries: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Query budget.", rich_help_panel=_ATTACK)
    ] = 20_000,
    attack_type: Annotated[
        AttackType, typer.Option(help="What the attacker knows.", rich_help_panel=_ATTACK)
    ] = AttackType.BLACKBOX,
    access: Annotated[
        Access, typer.Option(help="What the attacker sees of an answer.", rich_help_panel=_ATTACK)
    ] = Access.LABELS,
    threshold: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Make a defence where the score exceeds this; 0 always, 1 never.",
            rich_help_panel=_ATTACK,
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of everything random.", rich_help_panel=_ATTACK)
    ] = 42,
    input_dimensions: Annotated[
        str | None,
        typer.Option(help="(height, width, channels); else read from an image.",
                     rich_help_panel=_INPUT),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=2, help="Number of classes; else largest label + 1.",
                     rich_help_panel=_INPUT),
    ] = None,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize/--no-normalize",
            help="Whether the model takes pixels from 0 to 1, or from 0 to 255.",
            rich_help_panel=_INPUT,
        ),
    ] = True,
    color_space: Annotated[
        ColorSpace | None,
        typer.Option(help="Channel order of the model; else found out.", rich_help_panel=_INPUT),
    ] = None,
    encryption_strategy: Annotated[
        int | None,
        typer.Option(min=0, max=1, help="1: the model is base_model.pyc with its weights.",
                     rich_help_panel=_INPUT),
    ] = None,
    fail_on: Annotated[
        Severity | None,
        typer.Option(help="End with 1 at this severity or worse.", rich_help_panel=_RESULT),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_RESULT)
    ] = False,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow server or store that also gets the result.",
                     rich_help_panel=_RESULT),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(envvar="MODELWARD_URL", rich_help_panel=_SERVICE,
                     help="A running service; without it a private one is started."),
    ] = None,
    org_id: Annotated[
        str | None,
        typer.Option(envvar="MODELWARD_ORG_ID", show_envvar=True, rich_help_panel=_SERVICE,
                     help="Organisation id (better by the variable: options show in ps)."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="MODELWARD_API_KEY", show_envvar=True, rich_help_panel=_SERVICE,
                     help="API key (better by the variable)."),
    ] = None,
) -> None:  # fmt: skip
    """Assess a model, download reports and defence, and say how bad it is.

    Exit codes: 0 done and below --fail-on; 1 at or above it; 2 usage: nothing was assessed;
    3 incomplete: the job failed, the connection was lost, or a due defence is missing.
    """
    arguments: dict[str, Any] = {
        "model": model,
        "data": data,
        "labels": labels,
        "output": output,
        "task": task,
        "analysis": analysis,
        "number_of_attack_queries": queries,
        "attack_type": attack_type.value,
        "access": access.value,
        "vulnerability_threshold": threshold,
        "seed": seed,
        "input_dimensions": input_dimensions,
        "number_of_classes": classes,
        "normalize_data": "yes" if normalize else "no",
        "color_space": color_space.value if color_space else None,
        "encryption_strategy": encryption_strategy,
    }
    messages = Console(stderr=True)
    code = _guarded(
        lambda: _run(
            _Service(url, org_id, api_key),
            arguments,
            _Ending(fail_on, as_json, tracking_uri),
            messages,
        ),
        messages,
    )
    raise typer.Exit(code)


def _guarded(action: Callable[[], ExitCode], messages: Console) -> ExitCode:
    """Turn every end into its exit code; Python's own 1 would read as findings."""
    try:
        return action()
    except ModelwardError as error:
        messages.print(f"Error: {error.message}", style="red", markup=False, soft_wrap=True)
        point_to_options(error.message, messages)
        return code_for(error)
    except KeyboardInterrupt:
        messages.print("Interrupted; nothing was written.", style="red")
        return ExitCode.INCOMPLETE
    except Exception as error:
        if os.environ.get("MODELWARD_DEBUG"):
            traceback.print_exc()
        messages.print(
            f"Error: {type(error).__name__}: {error} (MODELWARD_DEBUG=1 shows where)",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        return ExitCode.INCOMPLETE


def _run(
    service: _Service,
    arguments: dict[str, Any],
    ending: _Ending,
    messages: Console,
) -> ExitCode:
    _check(service, arguments)
    if ending.tracking_uri:
        import_mlflow()  # what is missing is better told before the work than after it
    result = _assessed(service, arguments, messages)
    if ending.tracking_uri:
        log_result(result, ending.tracking_uri, messages)
    if ending.as_json:
        typer.echo(result.model_dump_json(indent=2))
    else:
        show_result(result, Console())
    for warning in result.warnings:
        messages.print(f"Warning: {warning}", style="yellow", markup=False, soft_wrap=True)
        point_to_options(warning, messages)
    for problem in result.problems:
        messages.print(f"Incomplete: {problem}", style="red", markup=False, soft_wrap=True)
    if not result.complete:
        return ExitCode.INCOMPLETE
    found = ending.fail_on and result.at_least(ending.fail_on)
    return ExitCode.FINDINGS if found else ExitCode.DONE


def _assessed(service: _Service, arguments: dict[str, Any], messages: Console) -> Assessment:
    jobs: list[str] = []
    with _client(service, messages) as client, show_progress(messages) as progress:

        def follow(step: Progress) -> None:
            if step.job is not None:
                jobs[:] = [step.job.job_id]
            progress(step)

        try:
            return client.assess(progress=follow, **arguments)
        except (KeyboardInterrupt, ServiceUnreachableError):
            # A private service ends with this command, and its job with it.
            for job_id in jobs if service.url else ():
                messages.print(
                    f"Job {job_id} goes on at the service. To end it: "
                    f"DELETE {client.url}/jobs/{job_id}, or client.cancel(...) in Python",
                    markup=False, soft_wrap=True,
                )  # fmt: skip
            raise


def _check(service: _Service, arguments: dict[str, Any]) -> None:
    """Refuse what cannot work before a service is started."""
    parse_task(arguments["task"])
    parse_analysis(arguments["analysis"])
    for name in ("model", "data", "labels"):
        if not arguments[name].exists():
            raise InvalidParameterError(
                f"--{name}: expected a file or a folder; {arguments[name]} is missing"
            )
    if service.url and not (service.org_id or service.api_key):
        raise InvalidParameterError(
            "--url needs --org-id or --api-key (or MODELWARD_ORG_ID, MODELWARD_API_KEY)"
        )


@contextmanager
def _client(service: _Service, messages: Console) -> Iterator[Client]:
    if service.url:
        with Client(service.url, service.org_id, service.api_key) as client:
            yield client
        return
    messages.print("starting a private service", style="dim")
    with LocalService() as local, local.client() as client:
        yield client


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("assess")(assess)
