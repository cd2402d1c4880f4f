"""Numbers as words: never more digits than known, never 0 for what was not measured."""

import re

from modelward.domain import Interval, Measured, ModelProfile

__all__ = [
    "cell",
    "count",
    "duration",
    "interval_text",
    "milliseconds",
    "not_measured",
    "parameters",
    "percent",
    "printable",
    "rate",
    "score_text",
    "shape",
    "shortened",
]

# Control characters (XML 1.0 allows none but tab and line breaks), lone surrogates, and the
# invisible characters that reorder or hide text on a screen.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff"
    "\ufdd0-\ufdef\ufeff\ufff9-\uffff]"
)


def printable(text: str) -> str:
    """The text without control, surrogate and direction characters; line breaks and tabs stay."""
    return _UNPRINTABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def shortened(text: str, limit: int = 400) -> str:
    """The text on one line, cut at ``limit`` characters with a note of what is missing."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    return f"{line[:limit]}… ({len(line) - limit:,} more characters)"


def percent(value: float, digits: int = 2) -> str:
    """A fraction in per cent; what is not quite all or nothing does not round to it."""
    text = f"{value * 100:.{digits}f}"
    smallest = 10**-digits
    if value < 1 and text == f"{100:.{digits}f}":
        return f"> {100 - smallest:.{digits}f} %"
    if value > 0 and text == f"{0:.{digits}f}":
        return f"< {smallest:.{digits}f} %"
    return f"{text} %"


def interval_text(interval: Interval, digits: int = 2) -> str:
    """An interval of a fraction in per cent: ``98.91 to 99.40 %``."""
    low, high = interval.low * 100, interval.high * 100
    return f"{low:.{digits}f} to {high:.{digits}f} %"


def not_measured(reason: str | None) -> str:
    """What stands where a number would be that nobody measured."""
    return f"not measured: {reason or 'no reason was recorded'}"


def rate(measured: Measured) -> str:
    """A measured fraction with interval and sample count, for running text."""
    if measured.value is None:
        return not_measured(measured.reason)
    details = []
    if measured.interval is not None:
        level = f"{measured.interval.level * 100:g} %"
        details.append(f"{level} interval {interval_text(measured.interval)}")
    elif measured.reason:
        details.append(f"no interval: {measured.reason}")
    if measured.n:
        details.append(f"n = {measured.n:,}")
    value = percent(measured.value)
    return f"{value} ({', '.join(details)})" if details else value


def cell(measured: Measured) -> tuple[str, str]:
    """A measured fraction for two table columns: value and interval."""
    if measured.value is None:
        return not_measured(measured.reason), ""
    return percent(measured.value), interval_text(measured.interval) if measured.interval else ""


def score_text(score: float) -> str:
    """A vulnerability score with three decimals."""
    return f"{score:.3f}"


def count(number: int) -> str:
    """A whole number with thousands separators."""
    return f"{number:,}"


def parameters(profile: ModelProfile) -> str:
    """Number of a model's parameters, or why it is not known."""
    if profile.parameters is None:
        return profile.hidden or "not known"
    return count(profile.parameters)


def duration(seconds: float) -> str:
    """A wall time: ``4.2 s`` or ``2 min 05 s``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def milliseconds(value: float | None, reason: str = "no timing was recorded") -> str:
    """A latency, or why there is none."""
    return not_measured(reason) if value is None else f"{value:.3g} ms"


def shape(dimensions: tuple[int, ...]) -> str:
    """``28 × 28 × 1``."""
    return " × ".join(str(size) for size in dimensions)
