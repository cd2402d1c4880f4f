"""Which ends of jobs are news."""

import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from modelward.jobs.store import JobStore

__all__ = ["ToldEnds"]

_LOG = logging.getLogger(__name__)
_OVERLAP_SECONDS = 3_600.0
"""How far back an end is still looked for: processes write it by clocks that may be moved."""


class ToldEnds:
    """The ends of jobs that the SIEM knows, in a small file; the database knows all.

    Args:
        path: The file.
        clock: Seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._since = 0.0
        self._ids: set[str] = set()

    def load(self, jobs: JobStore) -> None:
        """Read the file; without one, everything up to now counts as told."""
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            self._since, self._ids = float(content["since"]), set(map(str, content["jobs"]))
        except FileNotFoundError:
            self._begin(jobs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("%s is not readable (%s); reporting begins now", self._path, error)
            self._begin(jobs)

    def _begin(self, jobs: JobStore) -> None:
        self._since = self._clock()
        self._ids = set(jobs.ended(self._since - _OVERLAP_SECONDS))
        self.save()

    def news(self, jobs: JobStore) -> list[str]:
        """Ids of jobs that have ended and were not told."""
        # A clock that was set back must not hide what ends from now on.
        self._since = min(self._since, self._clock())
        found = jobs.ended(self._since - _OVERLAP_SECONDS)
        # Only what is still found can be asked for again.
        self._ids.intersection_update(found)
        return [job_id for job_id in found if job_id not in self._ids]

    def add(self, ids: Sequence[str]) -> None:
        """Remember that these were told."""
        self._ids.update(ids)
        self._since = self._clock()

    def save(self) -> None:
        """Write the file in one step; a full disk costs at most a repetition."""
        draft = self._path.with_suffix(".part")
        text = json.dumps({"since": self._since, "jobs": sorted(self._ids)})
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            _LOG.warning("%s could not be written: %s", self._path, error)

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
