"""The `modelward siem` commands: a SIEM on this machine, and one event to a real one."""

import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from modelward.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from modelward.siem_sink import LocalSink, Received

__all__ = ["register"]

_LOGS = {
    "dcr_endpoint": "MODELWARD_SENTINEL_ENDPOINT",
    "dcr_immutable_id": "MODELWARD_SENTINEL_DCR",
    "dcr_stream": "MODELWARD_SENTINEL_STREAM",
}
"""Argument -> environment variable of the Logs Ingestion API."""


def _stop(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(ExitCode.USAGE)


def _plain(text: object) -> str:
    """A text from the network without anything that a terminal would obey."""
    words = "".join(c if c.isprintable() else "?" for c in str(text))
    coding = sys.stdout.encoding or "utf-8"
    return words.encode(coding, "backslashreplace").decode(coding)


def _line(protocol: str, event: Mapping[str, Any]) -> str:
    names = ("timestamp", "probability", "SuspiciousLevel", "source_name", "asset_id", "RawMessage")
    words = [str(event.get(name) or "-") for name in names] + [str(event.get("event_id") or "-")]
    return _plain("  ".join([protocol, *words]))


def _intro(sink: "LocalSink") -> str:
    return f"""\
Listening at {sink.url} (Ctrl-C ends)

Microsoft Sentinel, HTTP Data Collector    {sink.url}/api/logs
  workspace id  {sink.workspace_id}
  shared key    {sink.shared_key}
Splunk, HTTP Event Collector               {sink.url}/services/collector/event
  token         {sink.token}

In Python:
  AISDefenseModel(model, azure_log_customer_id="{sink.workspace_id}",
                  azure_log_shared_key="{sink.shared_key}",
                  azure_log_endpoint="{sink.url}",
                  splunk_url="{sink.url}", authorization="{sink.token}")
In a shell, for modelward siem test --azure-log-endpoint {sink.url}:
  export MODELWARD_AZURE_LOG_CUSTOMER_ID={sink.workspace_id}
  export MODELWARD_AZURE_LOG_SHARED_KEY={sink.shared_key}
  export MODELWARD_SPLUNK_URL={sink.url}
  export MODELWARD_SPLUNK_AUTHORIZATION={sink.token}
"""


def _sink(
    *,
    host: Annotated[str, typer.Option(help="Loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = 0,
    workspace_id: Annotated[str | None, typer.Option(help="Instead of a new one.")] = None,
    shared_key: Annotated[str | None, typer.Option(help="Base64, instead of a new one.")] = None,
    token: Annotated[str | None, typer.Option(help="Splunk token, instead of a new one.")] = None,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Splunk's indexer acknowledgement is on.")
    ] = False,
    certfile: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).")] = None,
    keyfile: Annotated[Path | None, typer.Option(help="TLS private key (PEM).")] = None,
    count: Annotated[
        int | None, typer.Option(help="End after so many different events.", min=1)
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="End after so long.", min=0)] = None,
) -> None:
    """Be a strict SIEM on this machine and print what comes in, with the reason of each refusal."""
    from modelward.siem_sink import LocalSink

    enough = threading.Event()

    def show(received: "Received") -> None:
        answer = received.answer
        for event in answer.events:
            print(_line(received.protocol, event), flush=True)
        if answer.status != 200:
            who = received.protocol or "unknown"
            print(_plain(f"{who}  refused {answer.status}: {answer.reason}"), flush=True)
        if count is not None and len(sink.events) >= count:
            enough.set()

    try:
        sink = LocalSink(
            host,
            port,
            workspace_id=workspace_id,
            shared_key=shared_key,
            token=token,
            acknowledge=acknowledge,
            certfile=certfile,
            keyfile=keyfile,
            on_request=show,
        )
    except (ValueError, OSError) as error:
        _stop(f"The sink cannot start: {error}")
    try:
        with sink:
            print(_intro(sink), flush=True)
            enough.wait(seconds)
    except KeyboardInterrupt:
        print(flush=True)
    got, again = len(sink.events), sink.duplicates
    print(f"{got} events received, {again} of them again")
    if count is not None and got < count:
        raise typer.Exit(ExitCode.INCOMPLETE)


def _logs_sink(given: Mapping[str, str | None], ca_bundle: Path | None) -> Any:
    values = {
        name: (given[name] or os.environ.get(variable) or "").strip()
        for name, variable in _LOGS.items()
    }
    if not values["dcr_endpoint"] and not values["dcr_immutable_id"]:
        return None
    for name in ("dcr_endpoint", "dcr_immutable_id"):
        if not values[name]:
            raise ValueError(f"{name}: expected with the other, got nothing; or {_LOGS[name]}")
    from modelward.siem import SentinelLogs

    return SentinelLogs(
        values["dcr_endpoint"],
        values["dcr_immutable_id"],
        values["dcr_stream"] or "Custom-AIShield_CL",
        ca_bundle=None if ca_bundle is None else str(ca_bundle),
    )


def _event(alert: bool) -> Any:
    from modelward._version import __version__
    from modelward.siem import Event, raw_message, service_name_of, suspicious_level

    task, analysis, probability = "image_classification", "extraction", 0.99
    return Event(
        raw_message=raw_message(task, analysis) if alert else "Modelward test event",
        service_name=service_name_of(task, analysis),
        asset_id="modelward-siem-test",
        source_name="127.0.0.1",
        probability=probability if alert else 0.0,
        suspicious_level=suspicious_level(probability) if alert else "",
        computer=socket.gethostname(),
        defense_version=__version__,
    )


def _test(
    *,
    azure_log_customer_id: Annotated[
        str | None, typer.Option(help="Workspace id, or MODELWARD_AZURE_LOG_CUSTOMER_ID.")
    ] = None,
    azure_log_shared_key: Annotated[
        str | None, typer.Option(help="Its key, or better MODELWARD_AZURE_LOG_SHARED_KEY.")
    ] = None,
    azure_log_endpoint: Annotated[
        str | None, typer.Option(help="Address instead of the workspace's own.")
    ] = None,
    splunk_url: Annotated[
        str | None, typer.Option(help="Address of the collector, or MODELWARD_SPLUNK_URL.")
    ] = None,
    authorization: Annotated[
        str | None,
        typer.Option(
            "--authorization",
            "--splunk-token",
            help="Splunk token, or better MODELWARD_SPLUNK_AUTHORIZATION.",
        ),
    ] = None,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Wait for Splunk's indexers.")
    ] = False,
    dcr_endpoint: Annotated[
        str | None,
        typer.Option(help="Logs ingestion address, or MODELWARD_SENTINEL_ENDPOINT."),
    ] = None,
    dcr_immutable_id: Annotated[
        str | None, typer.Option(help="Id of the collection rule, or MODELWARD_SENTINEL_DCR.")
    ] = None,
    dcr_stream: Annotated[
        str | None,
        typer.Option(help="Its stream, or MODELWARD_SENTINEL_STREAM; else Custom-AIShield_CL."),
    ] = None,
    ca_bundle: Annotated[
        Path | None, typer.Option(help="PEM file of authorities to trust instead.")
    ] = None,
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="Plain http may leave this machine.")
    ] = False,
    alert: Annotated[
        bool, typer.Option("--alert", help="Word the event as an attack, so that rules fire.")
    ] = False,
) -> None:
    """Send one event to each SIEM given and print what came back; secrets are not printed.

    Exit codes: 0 every SIEM took it; 2 wrong use: nothing was sent; 3 one or more did not take it.
    """
    from modelward.siem import CREDENTIALS, make_sinks

    given = {
        "azure_log_customer_id": azure_log_customer_id,
        "azure_log_shared_key": azure_log_shared_key,
        "splunk_url": splunk_url,
        "authorization": authorization,
    }
    logs = {
        "dcr_endpoint": dcr_endpoint,
        "dcr_immutable_id": dcr_immutable_id,
        "dcr_stream": dcr_stream,
    }
    secrets = [given[n] or os.environ.get(CREDENTIALS[n]) for n in CREDENTIALS if n in _SECRET]
    try:
        sinks = make_sinks(
            given,
            azure_log_endpoint=azure_log_endpoint,
            ca_bundle=None if ca_bundle is None else str(ca_bundle),
            allow_http=allow_http,
            acknowledge=acknowledge,
        )
        other = _logs_sink(logs, ca_bundle)
    except (ValueError, ImportError) as error:
        _stop(str(error).replace("Pass allow_http=True", "Pass --allow-http"))
    sinks += [] if other is None else [other]
    if not sinks:
        _stop(
            "Expected a SIEM, got none: pass --azure-log-customer-id with --azure-log-shared-key, "
            "--splunk-url with --authorization, or --dcr-endpoint with --dcr-immutable-id. "
            "`modelward siem sink` is one to try"
        )
    event = _event(alert).fields()
    accepted = [_sent(sink, event, secrets) for sink in sinks]
    if not all(accepted):
        raise typer.Exit(ExitCode.INCOMPLETE)


_SECRET = ("azure_log_shared_key", "authorization")


def _sent(sink: Any, event: dict[str, Any], secrets: list[str | None]) -> bool:
    """Send and tell; whether it was accepted."""
    try:
        outcome = sink.send([event])
        accepted, reason = outcome.status == "accepted", outcome.reason
    except Exception as error:
        accepted, reason = False, f"failed with {type(error).__name__}"
    if accepted:
        typer.echo(f"{sink.name}: accepted, event id {event['event_id']}")
        return True
    for secret in secrets:
        for word in (secret or "").split():
            reason = reason.replace(word, "***") if len(word) > 6 else reason
    typer.echo(f"{sink.name}: not accepted: {_plain(reason)}", err=True)
    return False


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(help="Microsoft Sentinel and Splunk.", no_args_is_help=True)
    group.command("sink")(_sink)
    group.command("test")(_test)
    app.add_typer(group, name="siem")
