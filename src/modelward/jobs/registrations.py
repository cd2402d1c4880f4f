"""Registered models and the files uploaded for them."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from modelward.domain import AnalysisType, ConflictError, NotFoundError, TaskType, UploadDialect
from modelward.jobs import audit
from modelward.jobs.database import Database
from modelward.jobs.scope import owned_by
from modelward.jobs.tables import registrations, uploads

__all__ = ["Registration", "Registrations", "Upload", "uploads_in"]


@dataclass(frozen=True)
class Registration:
    """A model that was registered for one analysis."""

    id: str
    organisation: int
    task: TaskType
    analysis: AnalysisType
    dialect: UploadDialect
    locked: bool
    """Analysis has started: uploads are refused from now on."""


@dataclass(frozen=True)
class Upload:
    """The last complete upload of a slot."""

    slot: str
    blob: str
    size: int


class Registrations:
    """Keeps registrations and uploads."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(
        self, organisation: int, task: TaskType, analysis: AnalysisType, dialect: UploadDialect
    ) -> Registration:
        """Register a model; its id is a new UUID 4."""
        made = Registration(
            id=str(uuid.uuid4()),
            organisation=organisation,
            task=task,
            analysis=analysis,
            dialect=dialect,
            locked=False,
        )
        now = self._clock()
        with self._database.write() as connection:
            connection.execute(
                insert(registrations).values(
                    id=made.id,
                    organisation_id=organisation,
                    task=task.value,
                    analysis=analysis.value,
                    dialect=dialect.value,
                    created=now,
                )
            )
            audit.append(
                connection, "model.registered", now=now, organisation=organisation,
                subject=made.id, detail={"task": task.value, "analysis": analysis.value},
            )  # fmt: skip
        return made

    def get(self, model_id: str, organisation: int) -> Registration:
        """Look a registration of an organisation up.

        Raises:
            NotFoundError: Unknown id, or one of another organisation.
        """
        return self._find(model_id, owned_by(registrations, organisation))

    def get_unscoped(self, model_id: str) -> Registration:
        """Look a registration up whose id a signed link or a job vouches for.

        Raises:
            NotFoundError: Unknown id.
        """
        return self._find(model_id)

    def _find(self, model_id: str, *conditions: ColumnElement[bool]) -> Registration:
        with self._database.read() as connection:
            row = connection.execute(
                select(registrations).where(registrations.c.id == model_id, *conditions)
            ).first()
        if row is None:
            raise NotFoundError(
                f"model_id: expected the id of a registered model; got {model_id[:80]!r}. "
                "POST /model_registration/upload gives one"
            )
        return _registration(row)

    def uploads(self, model_id: str, organisation: int) -> dict[str, Upload]:
        """The complete uploads of an organisation's model by slot."""
        with self._database.read() as connection:
            return uploads_in(connection, model_id, organisation)

    def record(self, model_id: str, upload: Upload, organisation: int) -> str | None:
        """Make an upload the current one of its slot.

        Args:
            model_id: A registration.
            upload: What was received.
            organisation: Whose registration it is.

        Returns:
            Key of the blob that it replaces, if any.

        Raises:
            ConflictError: Analysis has started meanwhile.
        """
        with self._database.write() as connection:
            row = connection.execute(
                select(registrations.c.locked).where(
                    registrations.c.id == model_id, owned_by(registrations, organisation)
                )
            ).first()
            if row is None or row.locked is not None:
                raise ConflictError(
                    f"upload of {upload.slot}: expected before the analysis; it has started. "
                    "Register the model again to analyse other files"
                )
            previous = uploads_in(connection, model_id, organisation).get(upload.slot)
            now = self._clock()
            values = {"blob": upload.blob, "size": upload.size, "created": now}
            audit.append(
                connection, "upload.accepted", now=now, organisation=organisation,
                subject=model_id, detail={"slot": upload.slot, "bytes": upload.size},
            )  # fmt: skip
            if previous:
                connection.execute(
                    update(uploads)
                    .where(uploads.c.registration_id == model_id, uploads.c.slot == upload.slot)
                    .values(**values)
                )
                return previous.blob
            connection.execute(
                insert(uploads).values(registration_id=model_id, slot=upload.slot, **values)
            )
            return None


def uploads_in(connection: Connection, model_id: str, organisation: int) -> dict[str, Upload]:
    """The complete uploads by slot, inside a transaction of the caller."""
    rows = connection.execute(
        select(uploads).where(
            uploads.c.registration_id == model_id, owned_by(uploads, organisation)
        )
    )
    return {row.slot: Upload(slot=row.slot, blob=row.blob, size=row.size) for row in rows}


def _registration(row: Row[tuple[object, ...]]) -> Registration:
    return Registration(
        id=row.id,
        organisation=row.organisation_id,
        task=TaskType(row.task),
        analysis=AnalysisType(row.analysis),
        dialect=UploadDialect(row.dialect),
        locked=row.locked is not None,
    )
