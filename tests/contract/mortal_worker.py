"""The real worker, which dies by SIGKILL right after a chosen checkpoint was kept.

It leaves a temporary file behind, as it would amid a stage that copies a model.

MORTAL_AFTER=NAME:COUNT names the checkpoint and how many times it is kept before that.
"""

import os
import signal
import sys
import tempfile

from modelward.jobs import Checkpoints, Snapshot
from modelward.jobs.worker import main


def _arm(name: str, count: int) -> None:
    keep, seen = Checkpoints.save, []

    def save(self: Checkpoints, at: str, snapshot: Snapshot) -> bool:
        kept = keep(self, at, snapshot)
        seen.append(at)
        if seen.count(name) == count:
            tempfile.mkstemp()
            os.kill(os.getpid(), signal.SIGKILL)
        return kept

    Checkpoints.save = save  # type: ignore[method-assign]


if __name__ == "__main__":
    if chosen := os.environ.get("MORTAL_AFTER"):
        name, _, count = chosen.partition(":")
        _arm(name, int(count))
    sys.exit(main())
