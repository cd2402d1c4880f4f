"""What a job has reached, kept on disk so that another worker can go on from there.

A checkpoint is data only: a JSON file and, where there are arrays, an npz file beside it that is
read without pickle. Both carry SHA-256 sums. What is damaged, half-written or from another version
of Modelward counts as absent: the work is done again, which costs time but nothing else.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelward._version import __version__
from modelward.storage import disk_trouble, sync_folder, write_durably

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Checkpoints", "Snapshot", "checkpoint_folder"]

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9_]{1,60}")
_COST = 20
"""Inside a stage, writing may take about one part in so many of the wall time."""


def checkpoint_folder(data: Path, job_id: str) -> Path:
    """Where the checkpoints of a job lie; apart from its scratch folder, which is wiped."""
    return data / "checkpoints" / job_id


@dataclass(frozen=True)
class Snapshot:
    """Plain values and arrays: all that a checkpoint can hold."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """JSON; floats come back exactly."""
    arrays: "Mapping[str, NDArray[Any]]" = field(default_factory=dict)
    """Arrays of numbers; objects are refused."""


class Checkpoints:
    """The checkpoints of one job.

    Args:
        folder: Where they lie; made on the first save.
        pause: Seconds between two checkpoints inside a stage, for ``due``.
    """

    def __init__(self, folder: Path, pause: float = 10.0) -> None:
        self._folder = folder
        self._pause = pause
        self._last = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        """Whether enough time went by since the last one, measured by what writing costs."""
        return time.monotonic() - self._last >= max(self._pause, _COST * self._cost)

    def save(self, name: str, snapshot: Snapshot) -> bool:
        """Replace the checkpoint of a name, as a whole.

        Returns:
            Whether it was kept; on a full or read-only disk the job goes on without it.
        """
        began = time.monotonic()
        try:
            self._write(_checked(name), snapshot)
        except OSError as error:
            if disk_trouble(error) is None:
                raise
            _LOG.warning("checkpoint %s was not kept: %s", name, error)
            return False
        finally:
            self._last = time.monotonic()
            self._cost = self._last - began
        return True

    def load(self, name: str) -> Snapshot | None:
        """The checkpoint of a name; None where there is none that can be trusted."""
        path = self._folder / f"{_checked(name)}.json"
        if not path.exists():
            return None
        try:
            return _read(path)
        except Exception as error:
            # Whatever is wrong with it, the stage can be run again.
            _LOG.warning("checkpoint %s is ignored, its work is done again: %s", name, error)
            return None

    def forget(self, name: str) -> None:
        """Remove the checkpoint of a name."""
        (self._folder / f"{_checked(name)}.json").unlink(missing_ok=True)
        self._clear(name, keep=None)

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name: str, snapshot: Snapshot) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        entry: dict[str, Any] = {
            "version": __version__,
            "name": name,
            "values": dict(snapshot.values),
            "arrays": None,
        }
        if snapshot.arrays:
            entry["arrays"] = self._write_arrays(name, snapshot.arrays)
        # The JSON file is the checkpoint: until it is in place, the earlier one counts.
        text = json.dumps({**entry, "sha256": _sum_of(entry)})
        write_durably(self._folder / f"{name}.json", text.encode())
        self._clear(name, keep=entry["arrays"]["file"] if entry["arrays"] else None)

    def _write_arrays(self, name: str, arrays: "Mapping[str, NDArray[Any]]") -> dict[str, Any]:
        import numpy as np

        bad = [key for key, value in arrays.items() if value.dtype.hasobject]
        if bad:
            raise TypeError(f"checkpoint {name}: expected arrays of numbers; got objects in {bad}")
        path = self._folder / f"{name}-{secrets.token_hex(6)}.npz"
        try:
            with path.open("xb") as file:
                np.savez(file, **dict(arrays))  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._folder)
            return {"file": path.name, "size": path.stat().st_size, "sha256": _sum_of_file(path)}
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _clear(self, name: str, keep: str | None) -> None:
        for path in self._folder.glob(f"{name}-*.npz"):
            if path.name != keep:
                path.unlink(missing_ok=True)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"checkpoint: expected a name of letters, digits and _; got {name!r}")
    return name


def _sum_of(entry: Mapping[str, Any]) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _sum_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Snapshot:
    import numpy as np

    entry = json.loads(path.read_bytes())
    expected = entry.pop("sha256", None)
    if expected != _sum_of(entry) or entry["name"] != path.stem:
        raise ValueError("expected the checksum in the file; got another")
    if entry["version"] != __version__:
        raise ValueError(f"expected one of version {__version__}; got {entry['version']}")
    arrays: dict[str, Any] = {}
    if kept := entry["arrays"]:
        beside = path.parent / Path(kept["file"]).name
        if beside.stat().st_size != kept["size"] or _sum_of_file(beside) != kept["sha256"]:
            raise ValueError(f"expected the checksum of {beside.name}; got another")
        with np.load(beside, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    return Snapshot(values=entry["values"], arrays=arrays)
