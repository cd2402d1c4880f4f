"""The append-only log of what happened, as a chain of hashes.

Entry n carries the SHA-256 over the hash of entry n-1 and its own fields, so that a change, a
removal or an insertion breaks the chain at that place. Whoever can write the database file can
also forge a whole new chain, or cut off its end: only a head that was kept elsewhere shows that.
"""

import hashlib
import json
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select
from sqlalchemy.exc import SQLAlchemyError

from modelward.domain import StorageFullError, UnavailableError
from modelward.jobs.context import current
from modelward.jobs.database import Database
from modelward.jobs.secrets import mask
from modelward.jobs.tables import audit_log

__all__ = [
    "FIRST",
    "AuditEntry",
    "AuditTrail",
    "OpenedLinks",
    "Verdict",
    "append",
    "entries",
    "verify",
]

_LOG = logging.getLogger(__name__)
FIRST = "0" * 64
"""What the first entry names as the hash before it."""
_MOST_TEXT = 2000
_READING_SECONDS = 3.0
"""Longest wait for the database's lock before a report is handed out without its entry."""
_PORTION = 500
"""Entries that are read at once."""


@dataclass(frozen=True)
class AuditEntry:
    """One entry."""

    seq: int
    """1, 2, 3 ... without gaps."""
    time: float
    """Seconds since 1970, UTC."""
    event: str
    organisation_id: int | None
    actor: str
    subject: str
    """What it is about: the id of a key, model or job."""
    request_id: str
    address: str
    detail: str
    """A JSON object."""
    previous: str
    hash: str

    def digest(self) -> str:
        """The hash that belongs to these fields, in hex."""
        fields = asdict(self)
        previous = fields.pop("previous")
        del fields["hash"]
        body = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """What a verification found."""

    entries: int
    """Entries that are in order."""
    head: str
    """Hash of the last of them; keep it elsewhere to notice a log that was cut."""
    broken: int | None = None
    """Number of the first bad entry, None where there is none."""
    reason: str = ""

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.reason


def append(
    connection: Connection,
    event: str,
    *,
    now: float,
    organisation: int | None = None,
    subject: str = "",
    detail: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Add an entry inside a write transaction of the caller.

    The transaction holds the database's write lock since its beginning, so no other entry can
    come between reading the head and writing. Actor, request id and address are those of the
    current context.

    Args:
        connection: One of ``Database.write``.
        event: What happened, as ``noun.verb``.
        now: Seconds since 1970.
        organisation: Whom it concerns.
        subject: Id of a key, model or job.
        detail: More about it, JSON values; secrets in texts are masked.
    """
    head = connection.execute(
        select(audit_log.c.seq, audit_log.c.hash).order_by(audit_log.c.seq.desc()).limit(1)
    ).first()
    context = current()
    # Masked before it becomes JSON: a secret may end in the middle of an escaped sign.
    text = json.dumps(_masked(detail or {}), sort_keys=True, ensure_ascii=True)
    fields: dict[str, Any] = {
        "seq": head.seq + 1 if head else 1,
        "time": float(now),
        "event": event,
        "organisation_id": organisation,
        "actor": context.actor,
        "subject": subject[:200],
        "request_id": context.request_id,
        "address": context.address,
        "detail": text,
        "previous": head.hash if head else FIRST,
    }
    entry = AuditEntry(**fields, hash=AuditEntry(**fields, hash="").digest())
    connection.execute(insert(audit_log).values(**asdict(entry)))
    return entry


def _masked(value: Any, name: str = "") -> Any:
    """JSON values without secrets in their texts; ``name`` may say that a text is one."""
    if isinstance(value, Mapping):
        return {str(key): _masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    start = f"{name}=" if name else ""
    return mask(f"{start}{value}").removeprefix(start)


def entries(database: Database, since: float = 0.0) -> Iterator[AuditEntry]:
    """The entries from a moment on, oldest first.

    Read in portions, each for itself: whoever pages through them slowly must not keep the
    database from clearing its write-ahead log.
    """
    last = None
    while True:
        wanted = select(audit_log).where(audit_log.c.time >= since).order_by(audit_log.c.seq)
        if last is not None:
            wanted = wanted.where(audit_log.c.seq > last)
        with database.read() as connection:
            found = [_entry(row) for row in connection.execute(wanted.limit(_PORTION))]
        yield from found
        if len(found) < _PORTION:
            return
        last = found[-1].seq


def verify(connection: Connection, expect_head: str | None = None) -> Verdict:
    """Walk along the chain.

    Args:
        connection: For reading.
        expect_head: A head that was printed earlier; where no entry has it any more, the log
            was cut or rewritten.
    """
    count, head, seen = 0, FIRST, expect_head in (None, FIRST)
    for row in connection.execution_options(yield_per=_PORTION).execute(
        select(audit_log).order_by(audit_log.c.seq)
    ):
        entry = _entry(row)
        if reason := _wrong(entry, count + 1, head):
            return Verdict(count, head, broken=count + 1, reason=reason)
        count, head = count + 1, entry.hash
        seen = seen or head == expect_head
    if not seen:
        reason = (
            f"expected an entry with the hash {expect_head}; there is none. "
            "The log was cut or rewritten since that head was kept"
        )
        return Verdict(count, head, broken=count + 1, reason=reason)
    return Verdict(count, head)


def _wrong(entry: AuditEntry, number: int, head: str) -> str:
    if entry.seq != number:
        return f"expected entry {number}; got {entry.seq}: entries were removed"
    if entry.previous != head:
        return f"entry {number} does not follow the entry before it"
    try:
        same = entry.digest() == entry.hash
    except (TypeError, ValueError):
        same = False
    return "" if same else f"entry {number} was changed after it was written"


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(**row._mapping)


class AuditTrail:
    """Entries for which no other transaction is open.

    Refusals can be caused by anybody, as often as they like: of each kind only so many a minute
    are written, the next one says how many were left out.
    """

    _PER_MINUTE = 30

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def note(
        self,
        event: str,
        *,
        organisation: int | None = None,
        subject: str = "",
        detail: Mapping[str, Any] | None = None,
        durable: bool = False,
        wait_seconds: float | None = None,
    ) -> AuditEntry:
        """Add an entry in a transaction of its own; for the last two see ``Database.write``."""
        with self._database.write(durable=durable, wait_seconds=wait_seconds) as connection:
            return append(
                connection,
                event,
                now=self._clock(),
                organisation=organisation,
                subject=subject,
                detail=detail,
            )

    def note_reading(
        self,
        event: str,
        *,
        organisation: int | None = None,
        subject: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an entry about something that changes nothing, where it can be written.

        A full disk or a locked database must not keep anybody from a finished report, nor change
        the answer to somebody who is refused; the log has the entry then.
        """
        try:
            self.note(
                event,
                organisation=organisation,
                subject=subject,
                detail=detail,
                wait_seconds=_READING_SECONDS,
            )
        except (SQLAlchemyError, UnavailableError, StorageFullError):
            _LOG.exception(
                "audit: not written: %s, organisation %s, subject %s", event, organisation, subject
            )

    def refusal(
        self, event: str, *, organisation: int | None = None, subject: str = "", reason: str
    ) -> None:
        """Add an entry about something that was refused, unless there are too many of its kind."""
        with self._lock:
            minute = int(self._clock() // 60)
            if minute != self._minute:
                self._minute, self._counts = minute, {}
            self._counts[event] = self._counts.get(event, 0) + 1
            if self._counts[event] > self._PER_MINUTE:
                self._left_out[event] = self._left_out.get(event, 0) + 1
                return
            left_out = self._left_out.pop(event, 0)
        detail: dict[str, Any] = {"reason": reason[:_MOST_TEXT]}
        if left_out:
            detail["left_out_before"] = left_out
        self.note_reading(event, organisation=organisation, subject=subject, detail=detail)


class OpenedLinks:
    """Which pages were opened lately from where: a page that refreshes itself is noted once."""

    _AGAIN_SECONDS = 3600.0
    _MOST = 10_000

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def first(self, subject: str) -> bool:
        """Whether this address opens ``subject`` for the first time within an hour."""
        name, now = (subject, current().address), self._clock()
        with self._lock:
            if now - self._seen.get(name, -math.inf) < self._AGAIN_SECONDS:
                return False
            self._seen[name] = now
            self._seen.move_to_end(name)
            while len(self._seen) > self._MOST:
                self._seen.popitem(last=False)
            return True
