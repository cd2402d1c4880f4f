"""What the operator does on the data folder itself, beside a running server or without one."""

import getpass
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import inspect
from sqlalchemy.exc import DatabaseError

from modelward.domain import ModelwardError, StorageFullError, UnavailableError
from modelward.jobs import audit
from modelward.jobs.audit import AuditEntry, AuditTrail, Verdict
from modelward.jobs.context import RequestContext, acting
from modelward.jobs.database import DATABASE_FILE, Database, no_service
from modelward.jobs.keys import Keys
from modelward.jobs.signing import Rotation, rotate_signing_key
from modelward.jobs.tables import audit_log
from modelward.jobs.tenants import Credentials, Tenants
from modelward.settings import Settings

__all__ = ["AuditUnreadableError", "Operator", "create_organisation"]


class AuditUnreadableError(ModelwardError):
    """There is no audit log that could be judged."""


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return "cli"


class Operator:
    """Organisations, keys, audit log and signing key of one data folder."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock

    @contextmanager
    def _database(self, *, create: bool = False) -> Iterator[Database]:
        if not create and not os.path.isfile(self._settings.data / DATABASE_FILE):
            raise no_service(self._settings.data)
        database = Database(self._settings.data)
        try:
            with acting(RequestContext(actor=_actor())):
                database.migrate()
                yield database
        finally:
            database.close()

    @contextmanager
    def tenants(self, *, create: bool = False) -> Iterator[tuple[Tenants, Keys]]:
        """Organisations and keys; what is changed is noted under the operator's name.

        Args:
            create: Make folder and database where they are missing.

        Raises:
            InvalidInputError: There is no service's data.
            UnavailableError: Folder or database cannot be used.
        """
        with self._database(create=create) as database:
            yield Tenants(database, self._settings, self._clock), Keys(database, self._clock)

    def rotate_signing_key(self, *, drop_old: bool = False) -> Rotation:
        """Sign with a new key from now on.

        Args:
            drop_old: Make every link that was handed out so far useless.

        Raises:
            ConflictError: The folder holds no signing key.
        """
        done = rotate_signing_key(
            self._settings.data,
            longest_life=self._settings.longest_link_life,
            drop_old=drop_old,
            clock=self._clock,
        )
        with self._database(create=True) as database:
            AuditTrail(database, self._clock).note(
                "signing_key.rotated", detail={"drop_old": drop_old, "retired": done.retired}
            )
        return done

    def verify_audit(self, expect_head: str | None = None) -> Verdict:
        """Walk along the audit log, and note that it was done.

        Args:
            expect_head: A head that was kept elsewhere.

        Returns:
            What was found; where all is well, the head is that of the entry about this check.

        Raises:
            InvalidInputError: There is no service's data.
            AuditUnreadableError: No log, or one that cannot be read.
        """
        with self._log() as database:
            with database.read() as connection:
                verdict = audit.verify(connection, expect_head)
            found = {"intact": verdict.intact, "entries": verdict.entries, "head": verdict.head}
            try:
                # Its hash is kept elsewhere: a power cut must not take it, and look like a theft.
                noted = AuditTrail(database, self._clock).note(
                    "audit.verified", detail=found | {"reason": verdict.reason}, durable=True
                )
            except (UnavailableError, StorageFullError):
                # A copy that can only be read, or a full disk, can be judged all the same.
                return verdict
            if not verdict.intact:
                return verdict
            # The new entry follows whatever stands last; only where that is the judged head is
            # the new head one that was judged.
            if noted.previous == verdict.head:
                return Verdict(entries=noted.seq, head=noted.hash)
            return verdict

    def audit_entries(self, since: float = 0.0) -> Iterator[AuditEntry]:
        """The audit log from a moment on, oldest first.

        Raises:
            InvalidInputError: There is no service's data.
            AuditUnreadableError: No log, or one that cannot be read.
        """
        with self._log() as database:
            yield from audit.entries(database, since)

    @contextmanager
    def _log(self) -> Iterator[Database]:
        """The database as it is: neither made nor migrated, so that nothing is covered up."""
        path = self._settings.data / DATABASE_FILE
        if not os.path.isfile(path):
            raise no_service(self._settings.data)
        database = Database(self._settings.data)
        try:
            with database.read() as connection:
                if not inspect(connection).has_table(audit_log.name):
                    raise AuditUnreadableError(
                        f"audit log: expected one in {path}; the database has none. A server of "
                        "this version adds it at its start"
                    )
            with acting(RequestContext(actor=_actor())):
                yield database
        except (DatabaseError, UnavailableError, StorageFullError) as error:
            raise AuditUnreadableError(
                f"audit log: expected a readable database at {path}; {error}"
            ) from error
        finally:
            database.close()


def create_organisation(settings: Settings, name: str) -> Credentials:
    """Make an organisation in a data folder, beside a running server or without one."""
    with Operator(settings).tenants(create=True) as (tenants, _):
        return tenants.create(name)
