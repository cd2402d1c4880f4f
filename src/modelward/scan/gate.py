"""The decision whether a scanned model may be opened."""

from modelward.domain import AssessmentError
from modelward.scan.report import Level, Outcome, ScanReport

__all__ = ["require_harmless", "require_readable"]

BLOCKING = Level.MEDIUM


def require_harmless(report: ScanReport) -> None:
    """Refuse a model in which the scan found something of medium severity or above.

    Raises:
        AssessmentError: The message names the rule, the place and the reason of the worst finding.
    """
    found = report.at_least(BLOCKING)
    if found:
        worst, more = found[0], len(found) - 1
        also = f" and {more} more finding{'s' if more > 1 else ''}" if more else ""
        raise AssessmentError(
            f"model: expected a file in which the scan finds nothing; got {worst.rule} "
            f"({worst.severity}) at {worst.location}: {worst.reason}{also}; the model was not "
            "opened. Build it from standard parts; `modelward scan` lists every finding"
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
