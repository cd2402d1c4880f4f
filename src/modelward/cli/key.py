"""The `modelward key` commands."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from modelward.cli.operating import explained, stop
from modelward.cli.operator import operator_for

if TYPE_CHECKING:
    from modelward.jobs import KeyInfo, Keys, NewKey

__all__ = ["register"]

_DAY = 86_400.0
_LONGEST_DAYS = 3_660.0
_LONGEST_GRACE = 720.0
_Result = TypeVar("_Result")

_Org = Annotated[str, typer.Argument(metavar="ORG", help="Number, name or id of an organisation.")]
_KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, from `key list`.")]
_Data = Annotated[Path | None, typer.Option(help="Data folder of the service.")]
_Config = Annotated[Path | None, typer.Option(help="Settings file of the service.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _run(
    data: Path | None, config: Path | None, org: str, work: "Callable[[Keys, int], _Result]"
) -> _Result:
    operator = operator_for(config, data)
    with explained(), operator.tenants() as (tenants, keys):
        return work(keys, tenants.find_unscoped(org).number)


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _row(info: "KeyInfo") -> dict[str, Any]:
    return {
        "key_id": info.key_id,
        "label": info.label,
        "role": info.role.value,
        "state": info.state(datetime.now(tz=UTC).timestamp()),
        "exchanged": info.exchanged,
        "created": _time(info.created),
        "last_used": _time(info.used),
        "expires": _time(info.expires),
        "revoked": _time(info.revoked),
    }


def _print_new(made: "NewKey", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"api_key": made.secret, **_row(made.info)}))
        return
    typer.echo(f"Key id: {made.info.key_id} ({made.info.role.value}, {made.info.label})")
    typer.echo(f"API key: {made.secret}")
    typer.echo("Keep it secret: it is not stored and will not be shown again.", err=True)


def _create(
    org: _Org,
    *,
    label: Annotated[str, typer.Option(help="A name for people.")],
    role: Annotated[str, typer.Option(help="admin, submitter or viewer.")] = "submitter",
    days: Annotated[
        float | None, typer.Option(help="Days until it expires; left out: it does not.")
    ] = None,
    data: _Data = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Make a key; it is printed once and stored as a hash only."""
    if days is not None and not 0 < days <= _LONGEST_DAYS:
        stop(f"--days: expected more than 0 and at most {_LONGEST_DAYS:g} days; got {days:g}")

    def work(keys: "Keys", number: int) -> "NewKey":
        from modelward.jobs import parse_role

        lifetime = None if days is None else days * _DAY
        return keys.create(number, label=label, role=parse_role(role), lifetime=lifetime)

    _print_new(_run(data, config, org, work), as_json=as_json)


def _list(org: _Org, data: _Data = None, config: _Config = None, as_json: _Json = False) -> None:
    """List the keys of an organisation, without their secrets."""
    found = _run(data, config, org, lambda keys, number: keys.listed(number))
    rows = [_row(info) for info in found]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        ends = row["revoked"] or row["expires"] or "-"
        used = row["last_used"] or "never"
        typer.echo(
            f"{row['key_id']}  {row['role']:<9}  {row['state']:<7}  used {used}  "
            f"ends {ends}  {row['label']}"
        )


def _revoke(org: _Org, key: _KeyId, data: _Data = None, config: _Config = None) -> None:
    """End a key at once, the last admin key too."""

    def work(keys: "Keys", number: int) -> "KeyInfo":
        return keys.revoke(number, key, keep_an_admin=False)

    info = _run(data, config, org, work)
    typer.echo(f"Revoked: {info.key_id} ({info.role.value}, {info.label})")


def _rotate(
    org: _Org,
    key: _KeyId,
    *,
    grace_hours: Annotated[
        float, typer.Option(help="Hours for which the old key is still good.")
    ] = 0.0,
    data: _Data = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Replace a key by a new one of the same label and role."""
    if not 0 <= grace_hours <= _LONGEST_GRACE:
        stop(f"--grace-hours: expected 0 to {_LONGEST_GRACE:g} hours; got {grace_hours:g}")
    made = _run(
        data, config, org, lambda keys, number: keys.rotate(number, key, grace=grace_hours * 3600)
    )
    _print_new(made, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    group = typer.Typer(help="API keys of an organisation.", no_args_is_help=True)
    group.command("create")(_create)
    group.command("list")(_list)
    group.command("revoke")(_revoke)
    group.command("rotate")(_rotate)
    app.add_typer(group, name="key")
