"""fickling's view of a pickle. It can make the answer worse, never better."""

import os
import re
from contextlib import redirect_stderr, redirect_stdout

from modelward.scan.pickle_names import judge
from modelward.scan.pickle_stream import Stream
from modelward.scan.report import Level
from modelward.scan.scanner import Item, Scanner

__all__ = ["ask_fickling"]

MAX_BYTES = 2**20
MAX_OPCODES = 20_000
MAX_WEIGHT = 200_000


def ask_fickling(scanner: Scanner, item: Item, stream: Stream) -> None:
    """Add a finding where fickling calls a stream overtly malicious.

    Its milder grades are not used: every pickle of numpy arrays gets one of them. Streams that are
    large, or that write themselves out without bound, are not given to it.
    """
    size = stream.end - stream.start
    script = item.role == "torchscript_pickle"  # its classes are in no Python module
    large = size > MAX_BYTES or stream.opcodes > MAX_OPCODES or stream.heaviest > MAX_WEIGHT
    if not scanner.limits.second_opinion or large or script or not stream.globals:
        return
    try:
        from fickling.analysis import Severity, check_safety
        from fickling.fickle import Pickled
    except ImportError:
        scanner.notes.append(
            "fickling is not installed, so there is no second opinion on pickles; "
            'install it with pip install "modelward[server]"'
        )
        return
    try:
        # it prints warnings, between the lines of whatever we print ourselves
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            result = check_safety(Pickled.load(item.blob.read(stream.start, size)))
    except (Exception, RecursionError, MemoryError):
        scanner.no_opinion += 1  # it stumbles over protocol 5 and joblib's arrays
        return
    grades = [
        one.severity
        for one in result.results
        if one.severity >= Severity.LIKELY_OVERTLY_MALICIOUS and not _allowed(str(one.trigger))
    ]
    if grades:
        grade = max(grades).name.lower().replace("_", " ")
        scanner.finding(
            item, "MW-PKL-010", f"fickling calls it {grade}", level=Level.HIGH, offset=stream.start
        )


def _allowed(trigger: str) -> bool:
    """Whether fickling took offence at an import that is on the list of harmless names."""
    found = re.fullmatch(r"from (\S+) import (\S+)", trigger)
    return found is not None and judge(found[1], found[2]) is None
