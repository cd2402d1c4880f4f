"""Organisations, and who holds a key."""

import hmac
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from modelward.domain import (
    InvalidInputError,
    StorageFullError,
    UnauthenticatedError,
    UnavailableError,
)
from modelward.jobs import audit
from modelward.jobs.database import Database
from modelward.jobs.keys import NEVER, add_key, checked_label
from modelward.jobs.roles import Role
from modelward.jobs.scope import owned_by
from modelward.jobs.secrets import hash_secret, new_organisation_id
from modelward.jobs.tables import api_keys, organisations
from modelward.settings import Settings

__all__ = ["Caller", "Credentials", "Organisation", "Tenants"]

_LOG = logging.getLogger(__name__)
_MOST_DIGITS = 18
"""Longer numbers do not fit into the database, and name nobody."""
_NOTE_SECONDS = 1.0
"""Longest wait for the database's lock to note the use of a key, during which a call waits."""
_PATIENCE_SECONDS = 30.0
"""After a use that could not be noted, none is noted for so long."""


@dataclass(frozen=True)
class Credentials:
    """What ``org create`` hands out once."""

    name: str
    organisation_id: str
    api_key: str


@dataclass(frozen=True)
class Caller:
    """Who makes a request, after authentication."""

    organisation: int
    """Internal number of the organisation; its public id is a secret and is not kept."""
    key: int
    """Internal number of the key."""
    key_id: str
    """The key's id in lists, log and audit; no secret."""
    role: Role


@dataclass(frozen=True)
class Organisation:
    """An organisation as the operator sees it."""

    number: int
    name: str
    created: float


class Tenants:
    """Keeps organisations and keys; only hashes of their secrets are stored."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float]) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._note_from = -math.inf

    def create(self, name: str) -> Credentials:
        """Make an organisation with one lasting admin key.

        Raises:
            InvalidParameterError: A name that cannot be printed on one line.
        """
        title, public, now = checked_label(name, "name"), new_organisation_id(), self._clock()
        with self._database.write() as connection:
            number = connection.execute(
                insert(organisations)
                .values(name=title, secret_hash=hash_secret(public), created=now)
                .returning(organisations.c.id)
            ).scalar_one()
            audit.append(
                connection, "organisation.created", now=now, organisation=number,
                detail={"name": title},
            )  # fmt: skip
            made = add_key(
                connection, number, now=now, label="first key", role=Role.ADMIN, expires=None
            )
        return Credentials(name=title, organisation_id=public, api_key=made.secret)

    def all_unscoped(self) -> list[Organisation]:
        """Every organisation, for the operator of the data folder."""
        with self._database.read() as connection:
            rows = connection.execute(select(organisations).order_by(organisations.c.id))
            return [Organisation(row.id, row.name, row.created) for row in rows]

    def find_unscoped(self, given: str) -> Organisation:
        """The organisation that the operator means: number, name or secret id.

        Raises:
            InvalidInputError: There is none, or several have this name.
        """
        digest = hash_secret(given)
        number = int(given) if given.isdecimal() and len(given) <= _MOST_DIGITS else -1
        with self._database.read() as connection:
            rows = connection.execute(
                select(organisations).where(
                    (organisations.c.secret_hash == digest)
                    | (organisations.c.name == given)
                    | (organisations.c.id == number)
                )
            ).all()
        if len(rows) != 1:
            came = "several: " + ", ".join(str(row.id) for row in rows) if rows else "none"
            raise InvalidInputError(
                "organisation: expected the number, name or id of one organisation; "
                f"{came} found. `modelward org list` shows them with their numbers"
            )
        return Organisation(rows[0].id, rows[0].name, rows[0].created)

    def organisation(self, public: str | None) -> int:
        """Internal number of an organisation.

        Raises:
            UnauthenticatedError: Missing or unknown id.
        """
        if not public:
            raise UnauthenticatedError("Org-Id: expected an organisation id in the header")
        digest = hash_secret(public)
        with self._database.read() as connection:
            row = connection.execute(
                select(organisations.c.id, organisations.c.secret_hash).where(
                    organisations.c.secret_hash == digest
                )
            ).first()
        if row is None or not hmac.compare_digest(row.secret_hash, digest):
            raise UnauthenticatedError(
                "Org-Id: expected the id of an organisation of this service; got an unknown one. "
                "`modelward org create NAME` makes one"
            )
        return int(row.id)

    def exchange(self, organisation: int) -> str:
        """Mint a key for an organisation; beyond the limit the one idle longest goes."""
        now = self._clock()
        with self._database.write() as connection:
            own = owned_by(api_keys, organisation) & api_keys.c.exchanged
            connection.execute(delete(api_keys).where(own, api_keys.c.expires <= now))
            kept = (
                select(api_keys.c.id)
                .where(own)
                .order_by(api_keys.c.expires.desc(), api_keys.c.id.desc())
                .limit(self._settings.keys_per_organisation - 1)
            )
            connection.execute(delete(api_keys).where(own, api_keys.c.id.not_in(kept)))
            made = add_key(
                connection,
                organisation,
                now=now,
                label="exchanged",
                role=Role(self._settings.key_exchange_role),
                expires=now + self._settings.key_lifetime_seconds,
                exchanged=True,
                event="key.exchanged",
            )
        return made.secret

    def authenticate(self, key: str | None) -> Caller:
        """Find out who holds a key, and note that it was used.

        Raises:
            UnauthenticatedError: Missing, unknown, expired or revoked key.
        """
        if not key:
            raise UnauthenticatedError("x-api-key: expected an API key in the header")
        digest, now = hash_secret(key), self._clock()
        with self._database.read() as connection:
            row = connection.execute(
                select(api_keys).where(api_keys.c.secret_hash == digest)
            ).first()
        if row is None or not hmac.compare_digest(row.secret_hash, digest):
            raise UnauthenticatedError(
                "x-api-key: expected a key of this service; got an unknown one. "
                "`modelward key create` makes one"
            )
        if row.revoked is not None:
            raise UnauthenticatedError("x-api-key: this key was revoked; use another one")
        if row.expires is not None and row.expires <= now:
            raise UnauthenticatedError("x-api-key: this key has expired; fetch a new one")
        due = row.used == NEVER or now - row.used > self._settings.key_renewal_seconds
        if due and time.monotonic() >= self._note_from:
            self._note_use(int(row.id), now, renewed=bool(row.exchanged))
        return Caller(
            organisation=int(row.organisation_id),
            key=int(row.id),
            key_id=row.handle,
            role=Role(row.role),
        )

    def _note_use(self, key: int, now: float, *, renewed: bool) -> None:
        values = {"used": now}
        if renewed:
            values["expires"] = now + self._settings.key_lifetime_seconds
        try:
            with self._database.write(wait_seconds=_NOTE_SECONDS) as connection:
                connection.execute(update(api_keys).where(api_keys.c.id == key).values(**values))
        except (UnavailableError, StorageFullError):
            # Reading goes on while the database is busy or the disk full; a later use notes it.
            self._note_from = time.monotonic() + _PATIENCE_SECONDS
            _LOG.warning("the use of a key could not be noted", exc_info=True)
