"""The `modelward demo` command."""

import os
from pathlib import Path
from typing import Annotated

import typer

from modelward.domain import Access, AttackType, InvalidParameterError, ModelwardError

__all__ = ["register"]

_USAGE, _INCOMPLETE = 2, 3
_SIEM = "Report detections"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    demo = typer.Typer(help="Reference runs on public data.", no_args_is_help=True)
    demo.command("mnist")(_mnist)
    # A callback keeps `mnist` a sub-command: Typer folds a single command into its group.
    demo.callback()(_group)
    app.add_typer(demo, name="demo")


def _group() -> None:
    """Reference runs on public data."""


def _environment(name: str, url: str | None) -> str | None:
    """What the environment says about a running service; nothing where none was named."""
    return os.environ.get(f"MODELWARD_{name}") if url else None


def _mnist(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Digits of 8 x 8 pixels and small networks.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder of this run; left out: runs/mnist-<UTC time>.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="Query budget; left out: 20000, with --quick 2000.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 42,
    access: Annotated[Access, typer.Option(help="What the attacker sees.")] = Access.LABELS,
    attack_type: Annotated[
        AttackType, typer.Option(help="Whether uploaded images may seed the queries (greybox).")
    ] = AttackType.BLACKBOX,
    architecture: Annotated[str, typer.Option(help="default or reference.")] = "default",
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow server or store; left out: SQLite beside the run.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="A running service.")] = None,
    org_id: Annotated[
        str | None, typer.Option(help="Its organisation id; else $MODELWARD_ORG_ID.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="Its API key; else $MODELWARD_API_KEY.")
    ] = None,
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Leave the service up until Ctrl-C.")
    ] = False,
    azure_log_customer_id: Annotated[
        str | None,
        typer.Option(
            help="Sentinel workspace that gets the detections of the last step; "
            "else $MODELWARD_AZURE_LOG_CUSTOMER_ID.",
            rich_help_panel=_SIEM,
        ),
    ] = None,
    azure_log_shared_key: Annotated[
        str | None,
        typer.Option(
            help="Its key; else $MODELWARD_AZURE_LOG_SHARED_KEY, which fewer eyes see.",
            rich_help_panel=_SIEM,
        ),
    ] = None,
    azure_log_endpoint: Annotated[
        str | None,
        typer.Option(help="Address instead of the workspace's own.", rich_help_panel=_SIEM),
    ] = None,
    splunk_url: Annotated[
        str | None,
        typer.Option(
            help="Splunk event collector that gets them; else $MODELWARD_SPLUNK_URL.",
            rich_help_panel=_SIEM,
        ),
    ] = None,
    splunk_token: Annotated[
        str | None,
        typer.Option(
            help="Its token; else $MODELWARD_SPLUNK_AUTHORIZATION.", rich_help_panel=_SIEM
        ),
    ] = None,
    siem_ca_bundle: Annotated[
        Path | None,
        typer.Option(help="PEM file of authorities to trust there.", rich_help_panel=_SIEM),
    ] = None,
) -> None:
    """Train a digit classifier, steal it, defend it, log all of it.

    Exit codes: 0 done, 2 usage, 3 incomplete.
    """
    from rich.console import Console

    console = Console()
    # messages may hold brackets and long paths: neither markup nor wrapping
    errors = Console(stderr=True, markup=False, soft_wrap=True)
    try:
        from modelward.demo import Architecture, DemoSettings, SiemTarget, run_demo
    except ModuleNotFoundError as error:
        errors.print(
            f"The demo needs packages that are not installed ({error.name}). "
            "Run: pip install 'modelward[all]'"
        )
        raise typer.Exit(_USAGE) from None
    try:
        settings = DemoSettings(
            output=output or DemoSettings.default_output(),
            quick=quick,
            queries=queries if queries is not None else DemoSettings.default_queries(quick),
            seed=seed,
            access=access,
            attack_type=attack_type,
            architecture=Architecture.parse(architecture),
            tracking_uri=tracking_uri,
            url=url,
            org_id=org_id or _environment("ORG_ID", url),
            api_key=api_key or _environment("API_KEY", url),
            keep_serving=keep_serving,
            siem=SiemTarget.from_environment(
                azure_log_customer_id=azure_log_customer_id,
                azure_log_shared_key=azure_log_shared_key,
                azure_log_endpoint=azure_log_endpoint,
                splunk_url=splunk_url,
                splunk_token=splunk_token,
                ca_bundle=str(siem_ca_bundle) if siem_ca_bundle else None,
            ),
        )
    except InvalidParameterError as error:
        errors.print(error.message, style="red")
        raise typer.Exit(_USAGE) from None
    try:
        problems = run_demo(settings, console).problems
    except ModelwardError as error:
        errors.print(
            f"The run is incomplete: {error.message}\n"
            f"What was made so far is in {settings.output}.",
            style="red",
        )
        raise typer.Exit(_INCOMPLETE) from None
    except KeyboardInterrupt:
        errors.print(
            f"Interrupted. The service was stopped; what was made so far is in {settings.output}."
        )
        raise typer.Exit(_INCOMPLETE) from None
    for problem in problems:
        errors.print(f"Incomplete: {problem}", style="red")
    if problems:
        raise typer.Exit(_INCOMPLETE)
