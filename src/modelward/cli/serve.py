"""The `modelward serve` command."""

import logging
import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from modelward.cli.environment import unknown_variables

__all__ = ["register"]

_USAGE = 2


def _stop(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(_USAGE)


def _serve(
    *,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of database, files and signing key; left out: modelward-data."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; left out: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; left out: 8000, 0 picks a free one.")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address under which clients reach the service.")
    ] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="TLS private key (PEM).")] = None,
    key_exchange: Annotated[
        bool | None,
        typer.Option(
            "--key-exchange/--no-key-exchange",
            help="Whether an organisation id alone may fetch an API key.",
        ),
    ] = None,
    max_jobs: Annotated[int | None, typer.Option(help="Jobs that run at the same time.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with any of the settings.")] = None,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print the effective settings and stop.")
    ] = False,
) -> None:
    """Run the service; settings come from defaults, a named file, MODELWARD_*, then flags."""
    try:
        from modelward.api import is_loopback, run_server
        from modelward.settings import load_settings
        from modelward.settings import show_settings as render
    except ModuleNotFoundError as error:
        _stop(f"{error}. The service needs: pip install 'modelward[server]'")
    from modelward.domain import ModelwardError
    from modelward.storage import private_files

    try:
        settings = load_settings(
            config,
            data=data,
            host=host,
            port=port,
            public_url=public_url,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            key_exchange=key_exchange,
            max_jobs=max_jobs,
            log_level=log_level,
            log_format=log_format,
        )
        for problem in unknown_variables(os.environ):
            typer.echo(f"Warning: {problem}", err=True)
        if show_settings:
            typer.echo(render(settings))
            return
        if not is_loopback(settings.host) and not settings.tls:
            typer.echo(
                f"Warning: listening on {settings.host} without TLS; keys and models cross the "
                "network in clear. Use --ssl-certfile and --ssl-keyfile, or a proxy that does TLS.",
                err=True,
            )
        logging.captureWarnings(capture=True)
        with private_files():
            code = run_server(
                settings, ready=lambda url: print(f"Modelward is serving at {url}", flush=True)
            )
    except ModelwardError as error:
        _stop(error.message)
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("serve")(_serve)
