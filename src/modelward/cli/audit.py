"""The `modelward audit` commands."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from modelward.cli.operator import USAGE, operator_for, stop

__all__ = ["register"]

_BROKEN = 1
_UNREADABLE = 3
_HASH = re.compile(r"[0-9a-fA-F]{64}")

_Data = Annotated[Path | None, typer.Option(help="Data folder of the service.")]
_Config = Annotated[Path | None, typer.Option(help="Settings file of the service.")]


def _verify(
    data: _Data = None,
    config: _Config = None,
    expect_head: Annotated[
        str | None, typer.Option(help="A head that was printed earlier and kept elsewhere.")
    ] = None,
) -> None:
    """Check the chain of the audit log: 0 intact, 1 broken, 2 no service's data, 3 not readable.

    The head that is printed names everything up to now. Kept on another machine, it shows later
    that nothing was cut off: --expect-head.
    """
    from modelward.domain import InvalidInputError, ModelwardError

    if expect_head is not None and not _HASH.fullmatch(expect_head):
        stop(f"--expect-head: expected 64 hexadecimal digits; got {expect_head[:80]!r}", USAGE)
    operator = operator_for(config, data)
    try:
        verdict = operator.verify_audit(expect_head.lower() if expect_head else None)
    except InvalidInputError as error:
        stop(error.message, USAGE)
    except ModelwardError as error:
        stop(error.message, _UNREADABLE)
    if not verdict.intact:
        typer.echo(f"Broken at entry {verdict.broken}: {verdict.reason}")
        typer.echo(f"Entries in order before it: {verdict.entries}, head {verdict.head}")
        raise typer.Exit(_BROKEN)
    typer.echo(f"Intact: {verdict.entries} entries")
    typer.echo(f"Head: {verdict.head}")


def _moment(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        stop(f"--since: expected a time such as 2026-05-31T12:00; got {text[:40]!r}", USAGE)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _detail(text: str) -> Any:
    """The detail of an entry as JSON; as it stands where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _show(
    data: _Data = None,
    config: _Config = None,
    since: Annotated[
        str | None, typer.Option(help="ISO 8601 time, UTC unless it says otherwise.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, with the hashes.")
    ] = False,
) -> None:
    """Print the audit log, oldest first."""
    from modelward.domain import InvalidInputError, ModelwardError

    start = _moment(since)
    try:
        for entry in operator_for(config, data).audit_entries(start):
            if as_json:
                typer.echo(json.dumps(asdict(entry) | {"detail": _detail(entry.detail)}))
                continue
            moment = datetime.fromtimestamp(entry.time, tz=UTC).isoformat(timespec="seconds")
            # Texts of an altered log may hold anything; a terminal must not obey them.
            line = (
                f"{entry.seq:>6}  {moment}  {entry.event:<22} org {entry.organisation_id or '-'}  "
                f"{entry.actor}  {entry.subject}  {entry.detail}"
            )
            typer.echo(line.encode("unicode_escape").decode() if not line.isprintable() else line)
    except InvalidInputError as error:
        stop(error.message, USAGE)
    except ModelwardError as error:
        stop(error.message, _UNREADABLE)
    except (ValueError, TypeError, OverflowError) as error:
        stop(f"audit log: expected entries of this version; got others ({error})", _UNREADABLE)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(help="The log of what happened.", no_args_is_help=True)
    group.command("verify")(_verify)
    group.command("show")(_show)
    app.add_typer(group, name="audit")
