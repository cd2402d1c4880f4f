"""The decision whether a scanned model may be opened."""

from modelward.domain import AssessmentError
from modelward.scan.report import Level, Outcome, ScanReport

__all__ = ["require_harmless", "require_readable"]

BLOCKING = Level.MEDIUM


def require_harmless(
    report: ScanReport, *, what: str = "model", blocking: Level = BLOCKING
) -> None:
    """Refuse an upload in which the scan found something grave.

    Args:
        report: Of the uploaded archive.
        what: Its slot, for the message.
        blocking: Severity from which on a finding counts.

    Raises:
        AssessmentError: The message names the rule, the place and the reason of the worst finding.
    """
    found = report.at_least(blocking)
    if found:
        worst, more = found[0], len(found) - 1
        also = f" and {more} more finding{'s' if more > 1 else ''}" if more else ""
        raise AssessmentError(
            f"{what}: expected a file in which the scan finds nothing; got {worst.rule} "
            f"({worst.severity}) at {worst.location}: {worst.reason}{also}; it was not opened. "
            "Leave out what carries code; `modelward scan` lists every finding"
        )


def require_readable(report: ScanReport) -> None:
    """Refuse a model of which the scan could not read a part; files it has no reader for may stay.

    Raises:
        AssessmentError: The message names the part and the reason.
    """
    for part in report.parts:
        if part.outcome is Outcome.ERROR:
            raise AssessmentError(
                f"model: expected a file that the scan can read to its end; got {part.path}: "
                f"{part.reasons[0]}; save the model again, or leave that part out"
            )
