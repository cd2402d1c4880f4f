"""What a walk over a pickle finds out, and how it can end."""

from dataclasses import dataclass, field
from typing import Any

from modelward.scan.pickle_values import Global, Persistent, Raw
from modelward.scan.report import Level

__all__ = [
    "ARRAY_WRAPPER",
    "MAX_RAW",
    "MIN_RAW",
    "Alarm",
    "BrokenPickleError",
    "ContradictionError",
    "Stream",
]

MIN_RAW = 4
MAX_RAW = 100_000
"""Byte strings of one stream that are looked into."""
ARRAY_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"


class BrokenPickleError(Exception):
    """The unpickler would fail here."""


class ContradictionError(BrokenPickleError):
    """Two readers would read this differently; no honest program writes it."""


@dataclass
class Alarm:
    """Something other than a name that should not be in a stream."""

    rule: str
    level: Level
    offset: int
    opcode: str
    reason: str


@dataclass
class Stream:
    """What one pickle does, up to its end or to where it breaks."""

    start: int
    end: int = 0
    globals: dict[tuple[str, str], Global] = field(default_factory=dict)
    called: set[tuple[str, str]] = field(default_factory=set)
    reduced: set[tuple[str, str]] = field(default_factory=set)
    """Those among the called that were called by other opcodes than NEWOBJ."""
    alarms: list[Alarm] = field(default_factory=list)
    raw: list[Raw] = field(default_factory=list)
    """Byte strings of at least ``MIN_RAW`` bytes."""
    loaded: list[Raw | bytes] = field(default_factory=list)
    """Bytes that are given to torch.load."""
    encoded: list[bytes] = field(default_factory=list)
    """Byte strings that protocols 0 to 2 write as text."""
    methods: list[Any] = field(default_factory=list)
    """Lists of methods that a stacking model will call by name, as they are at the end."""
    persistent: list[Persistent] = field(default_factory=list)
    value: Any = None
    broken: str | None = None
    """Why and where the stream breaks; None: it ends with STOP."""
    opcodes: int = 0
    calls: int = 0
    heaviest: int = 1
    """Nodes of its largest value with every repetition written out."""
