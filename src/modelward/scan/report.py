"""What a scan found, and how much of its input it could look at."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Finding", "Level", "Outcome", "Part", "ScanReport", "Verdict", "printable"]

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters, halves of characters, and marks that turn the direction of the line."""


def printable(text: str) -> str:
    """A name out of a file, safe for a terminal and for any encoding."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Level(StrEnum):
    """How bad a finding is, from a note to code that was put there to do harm."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for info to 4 for critical."""
        return list(Level).index(self)

    def __lt__(self, other: str) -> bool:
        return self.rank < Level(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Level(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Level(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Level(other).rank


class Verdict(StrEnum):
    """The answer of a scan, worst first where several would fit."""

    MALICIOUS = "malicious"
    """At least one critical finding."""
    SUSPICIOUS = "suspicious"
    """Findings, none of them critical."""
    INCOMPLETE = "incomplete"
    """No findings, but a part was skipped or could not be read."""
    CLEAN = "clean"
    """Every part was read, none gave a finding."""


class Outcome(StrEnum):
    """How one file or archive member ended."""

    PASSED = "passed"
    FINDING = "finding"
    SKIPPED = "skipped"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that should not be in a model file."""

    rule: str
    """Id of the rule; docs/scanning.md lists them."""
    severity: Level
    path: str
    """The file; members of archives follow after ``!``."""
    reason: str
    offset: int | None = None
    """Byte in that file or member, where there is one."""
    where: str | None = None
    """Opcode, layer, node or object."""
    references: tuple[str, ...] = ()
    """CWE, CVE, MITRE ATLAS and OWASP ids."""

    @property
    def location(self) -> str:
        """Path, byte and place in one text."""
        at = f", byte {self.offset}" if self.offset is not None else ""
        return f"{self.path}{at}" + (f" ({self.where})" if self.where else "")


@dataclass(frozen=True)
class Part:
    """One file or archive member and how it ended."""

    path: str
    format: str
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    """Why it was skipped or could not be read."""


@dataclass(frozen=True)
class ScanReport:
    """Result of a scan; ``clean`` only where every byte was accounted for."""

    target: str
    parts: tuple[Part, ...]
    findings: tuple[Finding, ...]
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    """Modelward and the libraries that took part."""
    notes: tuple[str, ...] = ()
    """What a reader of the result should know, such as a second opinion that was not there."""

    @property
    def complete(self) -> bool:
        """Whether no part was skipped and none could not be read."""
        return bool(self.parts) and not self.unread

    @property
    def unread(self) -> tuple[Part, ...]:
        """Parts that were skipped or could not be read."""
        return tuple(p for p in self.parts if p.outcome in (Outcome.SKIPPED, Outcome.ERROR))

    @property
    def severity(self) -> Level | None:
        """The worst finding; None without findings."""
        return max((finding.severity for finding in self.findings), default=None)

    @property
    def verdict(self) -> Verdict:
        """One word for it; ``complete`` says whether more may be hidden."""
        worst = self.severity
        if worst is not None:
            return Verdict.MALICIOUS if worst is Level.CRITICAL else Verdict.SUSPICIOUS
        return Verdict.CLEAN if self.complete else Verdict.INCOMPLETE

    def coverage(self) -> dict[str, int]:
        """How many parts ended how."""
        return {
            str(outcome): sum(part.outcome is outcome for part in self.parts) for outcome in Outcome
        }

    def summary(self) -> str:
        """Verdict and coverage in one line."""
        counts = ", ".join(f"{n} {name}" for name, n in self.coverage().items() if n)
        return f"{self.verdict} ({counts})"

    def at_least(self, level: Level) -> tuple[Finding, ...]:
        """Findings of a severity or above, worst first."""
        chosen = [finding for finding in self.findings if finding.severity >= level]
        return tuple(sorted(chosen, key=lambda finding: -finding.severity.rank))
