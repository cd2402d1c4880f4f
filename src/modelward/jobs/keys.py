"""API keys as their organisation manages them: made, listed, revoked, rotated."""

import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, Row, func, insert, select, update

from modelward.domain import ConflictError, InvalidParameterError, NotFoundError
from modelward.jobs import audit
from modelward.jobs.database import Database
from modelward.jobs.roles import Role
from modelward.jobs.scope import owned_by
from modelward.jobs.secrets import hash_secret, new_api_key
from modelward.jobs.tables import api_keys

__all__ = ["NEVER", "KeyInfo", "Keys", "NewKey", "add_key", "checked_label"]

NEVER = 0.0
"""Stands in the column ``used`` of a key that was not used yet."""

_MOST_KEYS = 200
_MOST_LABEL = 80
_LONGEST_LIFE = 10 * 366 * 86_400.0


@dataclass(frozen=True)
class KeyInfo:
    """A key without its secret; times are seconds since 1970, UTC."""

    key_id: str
    label: str
    role: Role
    exchanged: bool
    """Fetched with the organisation id alone; its life is renewed when it is used."""
    created: float
    used: float | None
    """Last use, exact to a few minutes; None before the first."""
    expires: float | None
    revoked: float | None

    def state(self, now: float) -> str:
        """``live``, ``expired`` or ``revoked``."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "live"


@dataclass(frozen=True)
class NewKey:
    """A key that was just made; the secret is not stored and cannot be shown again."""

    info: KeyInfo
    secret: str


def checked_label(label: object, what: str = "label") -> str:
    """A name for people that is safe to print anywhere.

    Raises:
        InvalidParameterError: Not a text, too long, or with control characters in it.
    """
    text = label.strip() if isinstance(label, str) else None
    # C: control, format (text direction, zero width), surrogate, private use, unassigned;
    # Zl and Zp: line and paragraph separator
    bad = text is None or any(
        unicodedata.category(sign)[0] == "C" or unicodedata.category(sign) in ("Zl", "Zp")
        for sign in text
    )
    if bad or text is None or not 0 < len(text) <= _MOST_LABEL:
        raise InvalidParameterError(
            f"{what}: expected 1 to {_MOST_LABEL} printable characters on one line; "
            f"got {str(label)[:_MOST_LABEL]!a}"
        )
    return text


def add_key(
    connection: Connection,
    organisation: int,
    *,
    now: float,
    label: str,
    role: Role,
    expires: float | None,
    exchanged: bool = False,
    event: str = "key.created",
) -> NewKey:
    """Make a key inside a transaction of the caller, with its audit entry."""
    secret, handle = new_api_key(), f"key-{secrets.token_hex(8)}"
    connection.execute(
        insert(api_keys).values(
            organisation_id=organisation,
            secret_hash=hash_secret(secret),
            exchanged=exchanged,
            created=now,
            used=NEVER,
            expires=expires,
            handle=handle,
            label=label,
            role=role.value,
        )
    )
    detail = {"label": label, "role": role.value, "expires": expires}
    audit.append(
        connection, event, now=now, organisation=organisation, subject=handle, detail=detail
    )
    info = KeyInfo(handle, label, role, exchanged, now, None, expires, None)
    return NewKey(info, secret)


class Keys:
    """The keys of each organisation."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def create(
        self,
        organisation: int,
        *,
        label: object,
        role: Role,
        lifetime: float | None = None,
        lifetime_name: str = "lifetime",
    ) -> NewKey:
        """Make a key.

        Args:
            organisation: Whose key it is.
            label: A name for people.
            role: What it may do.
            lifetime: Seconds until it expires; None: it does not.
            lifetime_name: What the caller calls it, for the message.

        Raises:
            InvalidParameterError: A label or lifetime that does not fit.
            ConflictError: Too many keys.
        """
        name, now = checked_label(label), self._clock()
        if lifetime is not None and not 0 < lifetime <= _LONGEST_LIFE:
            raise InvalidParameterError(
                f"{lifetime_name}: expected more than 0 and at most {_LONGEST_LIFE:.0f} seconds; "
                f"got {lifetime:g}"
            )
        expires = None if lifetime is None else now + lifetime
        with self._database.write() as connection:
            self._leave_room(connection, organisation, now)
            return add_key(
                connection, organisation, now=now, label=name, role=role, expires=expires
            )

    def listed(self, organisation: int) -> list[KeyInfo]:
        """The keys of an organisation, newest first, revoked and expired ones too."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(api_keys)
                .where(owned_by(api_keys, organisation))
                .order_by(api_keys.c.created.desc(), api_keys.c.id.desc())
            )
            return [_info(row) for row in rows]

    def revoke(self, organisation: int, key_id: str, *, keep_an_admin: bool = True) -> KeyInfo:
        """End a key at once; revoking it again changes nothing.

        Args:
            organisation: Whose key it is.
            key_id: Its id, not its secret.
            keep_an_admin: Refuse for the last living admin key, which nobody could replace
                through the API.

        Raises:
            NotFoundError: Unknown id, or one of another organisation.
            ConflictError: The last living admin key.
        """
        now = self._clock()
        with self._database.write() as connection:
            info = self._find(connection, organisation, key_id)
            if info.revoked is not None:
                return info
            if keep_an_admin and info.role is Role.ADMIN:
                self._keep_an_admin(connection, organisation, key_id, now)
            self._end(connection, organisation, key_id, revoked=now)
            audit.append(
                connection, "key.revoked", now=now, organisation=organisation, subject=key_id
            )
            return self._find(connection, organisation, key_id)

    def rotate(
        self, organisation: int, key_id: str, *, grace: float = 0.0, grace_name: str = "grace"
    ) -> NewKey:
        """Replace a key by a new one of the same label, role and length of life.

        Args:
            organisation: Whose key it is.
            key_id: Its id, not its secret.
            grace: Seconds for which the old key is still good.
            grace_name: What the caller calls it, for the message.

        Raises:
            NotFoundError: Unknown id, or one of another organisation.
            ConflictError: The key is over already, or it is an exchanged one; or too many keys,
                where the old one lives on for a while.
            InvalidParameterError: A grace that does not fit.
        """
        if not 0 <= grace <= 30 * 86_400:
            raise InvalidParameterError(
                f"{grace_name}: expected 0 to {30 * 86_400} seconds; got {grace:g}"
            )
        now = self._clock()
        with self._database.write() as connection:
            info = self._find(connection, organisation, key_id)
            if info.state(now) != "live" or info.exchanged:
                kind = "an exchanged key" if info.exchanged else info.state(now)
                raise ConflictError(
                    f"key {key_id}: expected a living key that was made by an admin; it is {kind}. "
                    "Make or fetch a new one instead"
                )
            if grace:
                self._leave_room(connection, organisation, now)
            expires = None if info.expires is None else now + (info.expires - info.created)
            made = add_key(
                connection, organisation, now=now, label=info.label, role=info.role,
                expires=expires,
            )  # fmt: skip
            if grace:
                until = now + grace if info.expires is None else min(now + grace, info.expires)
                self._end(connection, organisation, key_id, expires=until)
            else:
                self._end(connection, organisation, key_id, revoked=now)
            audit.append(
                connection, "key.rotated", now=now, organisation=organisation, subject=key_id,
                detail={"new": made.info.key_id, "grace": grace},
            )  # fmt: skip
            return made

    def _find(self, connection: Connection, organisation: int, key_id: str) -> KeyInfo:
        row = connection.execute(
            select(api_keys).where(owned_by(api_keys, organisation), api_keys.c.handle == key_id)
        ).first()
        if row is None:
            raise NotFoundError(f"key_id: expected the id of a key; got {key_id[:40]!r}")
        return _info(row)

    def _end(self, connection: Connection, organisation: int, key_id: str, **values: float) -> None:
        own = owned_by(api_keys, organisation) & (api_keys.c.handle == key_id)
        connection.execute(update(api_keys).where(own).values(**values))

    def _keep_an_admin(
        self, connection: Connection, organisation: int, key_id: str, now: float
    ) -> None:
        others = select(func.count()).where(
            owned_by(api_keys, organisation),
            api_keys.c.role == Role.ADMIN.value,
            api_keys.c.handle != key_id,
            api_keys.c.revoked.is_(None),
            (api_keys.c.expires.is_(None)) | (api_keys.c.expires > now),
        )
        if not connection.execute(others).scalar_one():
            raise ConflictError(
                f"key {key_id}: this is the last admin key; make another one first, or revoke it "
                "on the server with `modelward key revoke`"
            )

    def _leave_room(self, connection: Connection, organisation: int, now: float) -> None:
        living = select(func.count()).where(
            owned_by(api_keys, organisation),
            api_keys.c.revoked.is_(None),
            api_keys.c.exchanged.is_(False),
            (api_keys.c.expires.is_(None)) | (api_keys.c.expires > now),
        )
        if connection.execute(living).scalar_one() >= _MOST_KEYS:
            raise ConflictError(
                f"keys: expected at most {_MOST_KEYS} living ones of an organisation; "
                "revoke some first"
            )


def _info(row: Row[tuple[object, ...]]) -> KeyInfo:
    return KeyInfo(
        key_id=row.handle,
        label=row.label,
        role=Role(row.role),
        exchanged=row.exchanged,
        created=row.created,
        used=None if row.used == NEVER else row.used,
        expires=row.expires,
        revoked=row.revoked,
    )
