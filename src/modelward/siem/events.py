"""What a SIEM is told: the fields of one event, in the words that published rules look for."""

import socket
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

__all__ = [
    "ATTACK_NAME",
    "Event",
    "attack_rows",
    "new_event_id",
    "own_address",
    "raw_message",
    "service_name_of",
    "suspicious_level",
    "utc_timestamp",
]

ATTACK_NAME = "model_attack"
TASK_WORDS = {
    "image_classification": "Image Classification",
    "image_segmentation": "Image Segmentation",
    "tabular_classification": "Tabular Classification",
    "timeseries_forecasting": "Timeseries Forecasting",
    "nlp": "Natural Language Processing",
}
"""Task -> its name in the text that the published Sentinel rules match."""
SERVICE_TASKS = {"nlp": "natural_language_processing"}
HIGH_FROM, LOW_FROM = 0.85, 0.70


def raw_message(task: str, analysis: str) -> str:
    """The sentence that published rules match, such as for ``image_classification, extraction``.

    Args:
        task: Task type; an unknown one is written out with capitals.
        analysis: ``extraction`` or ``evasion``.
    """
    name = TASK_WORDS.get(task, task.replace("_", " ").title())
    return f"{name} AI Model {analysis.title()} Attack Identified"


def service_name_of(task: str, analysis: str) -> str:
    """Name of the engine that reports, such as ``image_classification_extraction_defense_engine``.

    Args:
        task: Task type.
        analysis: ``extraction`` or ``evasion``.
    """
    return f"{SERVICE_TASKS.get(task, task)}_{analysis}_defense_engine"


def suspicious_level(probability: float) -> str:
    """Words of the published rules for a probability in [0, 1], judged at two decimals.

    Returns:
        ``high suspicious attack`` from 0.85, ``low suspicious attack`` from 0.70, else nothing.
    """
    shown = round(float(probability), 2)
    if shown >= HIGH_FROM:
        return "high suspicious attack"
    return "low suspicious attack" if shown >= LOW_FROM else ""


def utc_timestamp(seconds: float | None = None) -> str:
    """ISO 8601 in UTC with milliseconds and Z; now where no seconds since 1970 are given."""
    utc = timezone.utc  # noqa: UP017 - the artifact also runs on Python 3.8
    moment = datetime.now(utc) if seconds is None else datetime.fromtimestamp(seconds, utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_event_id() -> str:
    """A name that no other event has, the same on every delivery of the event.

    The prefix keeps it a text: Sentinel gives columns of bare GUIDs another suffix.
    """
    return f"evt-{uuid.uuid4().hex}"


def own_address() -> str:
    """This host's address on its network, loopback where there is none; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


class Event:
    """One event. ``fields`` gives the names that go over the wire.

    No dataclass: those look their module up, which an artifact executed by its path has not.

    Args:
        raw_message: What happened, in words.
        service_name: The engine that noticed.
        asset_id: What is protected.
        source_name: Address from which the input came, or of this host.
        probability: Of an attack, in [0, 1]; sent with two decimals.
        timestamp: ISO 8601, UTC; now by default.
        suspicious_level: ``high suspicious attack``, ``low suspicious attack`` or empty.
        computer: Name of this host.
        attack_name: Kind of attack.
        event_id: Same on every delivery, so that what arrives twice can be told; a new one by
            default.
        model_id: Assessed model.
        job_id: Assessment that made the defence.
        defense_version: Version of the defence.
        rows: How many inputs this event stands for.
    """

    def __init__(
        self,
        *,
        raw_message: str,
        service_name: str,
        asset_id: str,
        source_name: str,
        probability: float,
        timestamp: str | None = None,
        suspicious_level: str = "",
        computer: str = "",
        attack_name: str = ATTACK_NAME,
        event_id: str | None = None,
        model_id: str = "",
        job_id: str = "",
        defense_version: str = "",
        rows: int = 1,
    ) -> None:
        self.raw_message, self.service_name = raw_message, service_name
        self.asset_id, self.source_name = asset_id, source_name
        self.probability = probability
        self.timestamp = timestamp or utc_timestamp()
        self.suspicious_level, self.computer = suspicious_level, computer
        self.attack_name = attack_name
        self.event_id = event_id or new_event_id()
        self.model_id, self.job_id, self.defense_version = model_id, job_id, defense_version
        self.rows = rows

    def __repr__(self) -> str:
        return f"Event({self.event_id}: {self.raw_message!r})"

    def fields(self) -> dict[str, Any]:
        """The event as it is sent: texts, ``probability`` a float and ``rows`` an int."""
        return {
            "RawMessage": self.raw_message,
            "service_name": self.service_name,
            "asset_id": self.asset_id,
            "source_name": self.source_name,
            # Two decimals: a parser that grades in bands (0.70-0.84, 0.85-1) has gaps between.
            "probability": round(float(self.probability), 2),
            "attack_name": self.attack_name,
            "timestamp": self.timestamp,
            "SuspiciousLevel": self.suspicious_level,
            "Computer": self.computer,
            "event_id": self.event_id,
            "model_id": self.model_id,
            "job_id": self.job_id,
            "defense_version": self.defense_version,
            "rows": self.rows,
        }


def attack_rows(
    probabilities: Sequence[float], sources: Sequence[str]
) -> tuple[dict[str, Any], ...]:
    """The fields in which the events of one call differ; cheap, since predictions wait for it.

    Args:
        probabilities: Of an attack, one per flagged input.
        sources: Where each came from.
    """
    common = f"evt-{uuid.uuid4().hex}"
    return tuple(
        {
            "event_id": f"{common}-{number}",
            "probability": round(float(probability), 2),
            "SuspiciousLevel": suspicious_level(probability),
            "source_name": source,
        }
        for number, (probability, source) in enumerate(zip(probabilities, sources))  # noqa: B905 - Python 3.8
    )
