"""Tells the SIEM how assessments ended and what the service refused."""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from modelward._version import __version__
from modelward.domain import Severity
from modelward.jobs.alert_sinks import sinks_of
from modelward.jobs.gates import DECLINED
from modelward.jobs.refusals import Refusals, Tally
from modelward.jobs.secrets import mask
from modelward.jobs.store import Job, JobState
from modelward.scoring import severity
from modelward.settings import Settings
from modelward.siem import Delivery, Event, own_address, utc_timestamp

__all__ = ["KEY_REFUSED", "SERVICE_NAME", "UPLOAD_REJECTED", "Alerts"]

_LOG = logging.getLogger(__name__)

SERVICE_NAME = "modelward_assessment_service"
"""``service_name`` of every event from here; detections come from other engines."""
KEY_REFUSED, UPLOAD_REJECTED = "key_exchange_refused", "upload_rejected"
_SENTENCES = {
    KEY_REFUSED: "Modelward key exchange refused",
    UPLOAD_REJECTED: "Modelward upload rejected",
}
_GRADES = {
    Severity.LOW: 0.0,
    Severity.MEDIUM: 0.7,
    Severity.HIGH: 0.85,
    Severity.CRITICAL: 1.0,
}
"""Severity -> ``probability``: the bottom of the band that published parsers give that name
(critical, which they do not know, is High)."""
_LOOK_SECONDS = 1.0
_LONGEST_REASON = 500
_RANK = list(Severity)


class Alerts:
    """Observes jobs and refusals; without a SIEM in the settings it does nothing.

    The dispatcher tells of every end of a job, whoever wrote it, also of those while the server
    was down. After a crash an event may come twice, with the same ``event_id``.

    Args:
        settings: Effective settings.
        clock: Seconds since 1970.
        steady: Seconds that only grow.
        sinks: Instead of those in the settings.

    Raises:
        InvalidInputError: A SIEM setting is malformed; the message names it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        sinks: Sequence[Any] | None = None,
    ) -> None:
        self._sinks = sinks_of(settings) if sinks is None else list(sinks)
        self._settings = settings
        self._clock = clock
        self._refusals = Refusals(steady)
        self._delivery: Delivery | None = None
        self._host = {"computer": socket.gethostname(), "source_name": own_address()}
        self._one_at_a_time = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin to report; call it before jobs may end."""
        if not self._sinks:
            return
        self._delivery = Delivery(self._sinks, self._settings.data / "siem-spool.db")
        _LOG.info(
            "reporting jobs of severity %s and above, failed jobs and refusals to %s",
            self._settings.siem_min_severity.value,
            ", ".join(str(sink.name) for sink in self._sinks),
        )
        self._thread.start()

    def stop(self) -> None:
        """Report what is left, and send for two seconds; the rest waits for the next start."""
        if self._delivery is None:
            return
        self._stopping.set()
        self._thread.join()
        self._quietly(lambda: self.look(last=True))
        self._delivery.close()

    def refused(
        self, kind: str, *, source: str | None, detail: str, reason: str = "", model_id: str = ""
    ) -> None:
        """A caller was refused; counted, never raises, waits for nothing.

        Args:
            kind: ``KEY_REFUSED`` or ``UPLOAD_REJECTED``.
            source: Address of the caller.
            detail: What was refused, in fixed words; each is counted for itself.
            reason: What the caller was told.
            model_id: Which model it was about.
        """
        if self._delivery is None:
            return

        def note() -> None:
            first = self._refusals.note(
                f"{kind}: {detail}", source=source or "", model_id=model_id, reason=reason
            )
            if first is not None:
                self._send([self._refusal(first)])

        self._quietly(note)

    def ended(self, job: Job) -> None:
        """A job has ended; harmless where it is told again, since the event has the same id."""
        if self._delivery is None:
            return

        def tell() -> None:
            event = self._end(job)
            if event is not None:
                self._send([event])

        self._quietly(tell)

    def look(self, *, last: bool = False) -> None:
        """Report the refusals of the minutes that are over."""
        with self._one_at_a_time:
            self._send([self._refusal(tally) for tally in self._refusals.due(all_of_them=last)])

    def _loop(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self._quietly(self.look)

    def _quietly(self, work: Callable[[], object]) -> None:
        """An observer breaks neither a request nor a job."""
        try:
            work()
        except Exception:
            _LOG.exception("SIEM: an event could not be made")

    def _send(self, events: Sequence[Event]) -> None:
        if self._delivery is not None:
            self._delivery.submit(events)

    def _event(self, name: str, text: str, grade: Severity, **fields: Any) -> Event:
        about = {"asset_id": self._settings.base_url, "timestamp": utc_timestamp(self._clock())}
        return Event(
            **{**self._host, **about, **fields},
            raw_message=harmless(text),
            service_name=SERVICE_NAME,
            attack_name=name,
            probability=_GRADES[grade],
            defense_version=__version__,
        )

    def _end(self, job: Job) -> Event | None:
        """The event of a job that has ended; None where it is not worth one."""
        pair = f"{job.task} {job.analysis}".replace("_", " ")
        about = {
            "asset_id": job.model_id,
            "model_id": job.model_id,
            "job_id": job.id,
            "timestamp": utc_timestamp(job.finished),
            # Told twice after a crash, it can be recognised.
            "event_id": f"evt-{job.id}-{job.state.value}",
        }
        if job.state is JobState.FAILED:
            text = f"Modelward assessment failed ({pair}): {job.message}"
            return self._event("assessment_failed", text, Severity.LOW, **about)
        if job.state is not JobState.SUCCEEDED or job.score is None:
            return None
        level = severity(job.score)
        if _RANK.index(level) < _RANK.index(self._settings.siem_min_severity):
            return None
        defence = "no defence was called for" if job.message == DECLINED else "a defence is ready"
        text = (
            f"Modelward assessment finished ({pair}): vulnerability score {job.score:.2f}, "
            f"severity {level.value}; {defence}"
        )
        return self._event("assessment_finished", text, level, **about)

    def _refusal(self, tally: Tally) -> Event:
        kind, _, detail = tally.kind.partition(": ")
        reason = f" ({tally.reason})" if tally.reason else ""
        text = f"{_SENTENCES[kind]}: {detail}{reason}"
        if tally.count > 1:
            addresses = f"{len(tally.sources)} address" + "es" * (len(tally.sources) > 1)
            text = f"{_SENTENCES[kind]}: {detail}, {tally.count} times from {addresses}{reason}"
        about: dict[str, Any] = {"rows": tally.count, "model_id": tally.model_id}
        if tally.model_id:
            about["asset_id"] = tally.model_id
        if tally.source:
            about["source_name"] = tally.source
        return self._event(kind, text, Severity.LOW, **about)


def harmless(text: str) -> str:
    """One line without secrets that no published detection rule takes for an attack.

    Reasons quote names of uploaded files, and an uploader may choose them to look like an alert.
    """
    line = "".join(c if c.isprintable() else " " for c in mask(" ".join(text.split())))
    line = re.sub(r"(?i)\battack(\W+)identified", r"attack-identified", line)
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."
