"""How fair an order of jobs was; see ``load.py``."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

__all__ = ["unfairness"]


def unfairness(jobs: Sequence[tuple[int, float, float]]) -> Counter[int]:
    """How often one other organisation was served, at most, while a first job waited.

    A job waits in the first place from when it came, or from when the job before it of the same
    organisation was started. Round robin never lets another one be served twice meanwhile; where
    jobs run at the same time it may happen at the edge.

    Args:
        jobs: (organisation, created, started) of every job that was started, in seconds.

    Returns:
        Number of jobs by that count.
    """
    by_start = sorted(jobs, key=lambda job: job[2])
    times = [started for _, _, started in by_start]
    last: dict[int, float] = {}
    found: Counter[int] = Counter()
    for organisation, created, started in by_start:
        since = max(created, last.get(organisation, 0.0))
        between = by_start[bisect_right(times, since) :]
        served = Counter(other for other, _, when in between if when < started)
        served.pop(organisation, None)
        found[max(served.values(), default=0)] += 1
        last[organisation] = started
    return found
