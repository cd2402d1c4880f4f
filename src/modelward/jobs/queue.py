"""Who may queue a job, which one is next, and which request asks for the same one again.

All functions work inside a write transaction of the caller: what they find is still true when the
caller writes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select

from modelward.domain import InvalidInputError, InvalidParameterError, TooManyRequestsError
from modelward.jobs.records import JobState
from modelward.jobs.tables import idempotency_keys, jobs, organisations

__all__ = ["KEY_SECONDS", "QueueLimits", "RequestKey", "next_waiting", "require_room"]

KEY_SECONDS = 86_400.0
"""An idempotency key counts at least this long, and as long as its job is open."""
_LONGEST_KEY = 255
_RETRY_SECONDS = 30.0
_LONGEST_DELAY = 3_600.0
"""No job is told to wait longer; where it seems so, the clock was set back meanwhile."""


@dataclass(frozen=True)
class QueueLimits:
    """How many jobs may wait."""

    jobs: int
    per_organisation: int


def require_room(connection: Connection, organisation: int, limits: QueueLimits) -> None:
    """Let a job in only where the queue has room for it.

    Raises:
        TooManyRequestsError: Too many jobs wait already.
    """
    waiting = select(func.count()).select_from(jobs).where(jobs.c.state == JobState.QUEUED)
    total = connection.execute(waiting).scalar_one()
    mine = connection.execute(waiting.where(jobs.c.organisation_id == organisation)).scalar_one()
    for count, most, whose in (
        (mine, limits.per_organisation, "of one organisation (queue_max_jobs_per_organisation)"),
        (total, limits.jobs, "in all (queue_max_jobs)"),
    ):
        if count >= most:
            raise TooManyRequestsError(
                f"queue: expected fewer than {most} waiting jobs {whose}; {count} wait. Send the "
                "request again when some have been started",
                retry_after=_RETRY_SECONDS,
            )


def next_waiting(connection: Connection, now: float) -> Row[Any] | None:
    """The job to start next.

    Organisations take turns: first the one with the fewest running jobs, among those the one that
    was served longest ago; within an organisation the oldest job. No organisation can hold up
    another one, however many jobs it sends, and within one nothing is overtaken for ever.
    """
    ready = (jobs.c.state == JobState.QUEUED) & or_(
        jobs.c.not_before.is_(None),
        jobs.c.not_before <= now,
        jobs.c.not_before > now + _LONGEST_DELAY,
    )
    running = (
        select(jobs.c.organisation_id, func.count().label("count"))
        .where(jobs.c.state == JobState.RUNNING)
        .group_by(jobs.c.organisation_id)
        .subquery()
    )
    heads = (
        select(jobs.c.organisation_id, func.min(jobs.c.created).label("oldest"))
        .where(ready)
        .group_by(jobs.c.organisation_id)
        .subquery()
    )
    turn = connection.execute(
        select(heads.c.organisation_id)
        .join(organisations, organisations.c.id == heads.c.organisation_id)
        .outerjoin(running, running.c.organisation_id == heads.c.organisation_id)
        .order_by(
            func.coalesce(running.c.count, 0),
            func.coalesce(organisations.c.served, 0.0),
            heads.c.oldest,
        )
        .limit(1)
    ).scalar()
    if turn is None:
        return None
    return connection.execute(
        select(jobs)
        .where(ready, jobs.c.organisation_id == turn)
        .order_by(jobs.c.created, jobs.c.id)
        .limit(1)
    ).first()


@dataclass(frozen=True)
class RequestKey:
    """What tells a repeated request from a new one: the client's key and what it asked for."""

    name: str
    fingerprint: str

    @classmethod
    def of(cls, name: str | None, payload: Mapping[str, Any]) -> "RequestKey | None":
        """Read the header ``Idempotency-Key``; None where it was not sent.

        Raises:
            InvalidInputError: Empty, too long, or not printable ASCII.
        """
        if name is None:
            return None
        if not 1 <= len(name) <= _LONGEST_KEY or not (name.isascii() and name.isprintable()):
            raise InvalidInputError(
                f"Idempotency-Key: expected 1 to {_LONGEST_KEY} printable ASCII characters; got "
                f"{name[:40]!r}"
            )
        text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
        return cls(name, hashlib.sha256(text.encode()).hexdigest())

    def find(
        self, connection: Connection, organisation: int, model_id: str, now: float
    ) -> str | None:
        """The job that an earlier request with this key made; an outlived key is forgotten.

        Raises:
            InvalidParameterError: The earlier request asked for something else.
        """
        mine = (
            (idempotency_keys.c.organisation_id == organisation)
            & (idempotency_keys.c.registration_id == model_id)
            & (idempotency_keys.c.name == self.name)
        )
        row = connection.execute(
            select(idempotency_keys, jobs.c.state)
            .join(jobs, jobs.c.id == idempotency_keys.c.job_id)
            .where(mine)
        ).first()
        if row is None:
            return None
        if JobState(row.state).ended and row.created + KEY_SECONDS <= now:
            connection.execute(delete(idempotency_keys).where(mine))
            return None
        if row.fingerprint != self.fingerprint:
            raise InvalidParameterError(
                f"Idempotency-Key: expected the request that this key came with first (job "
                f"{row.job_id}); got other parameters. Use a new key for a new request"
            )
        return str(row.job_id)

    def keep(
        self, connection: Connection, organisation: int, model_id: str, job_id: str, now: float
    ) -> None:
        """Remember which job this key made."""
        connection.execute(
            insert(idempotency_keys).values(
                organisation_id=organisation,
                registration_id=model_id,
                name=self.name,
                fingerprint=self.fingerprint,
                job_id=job_id,
                created=now,
            )
        )
