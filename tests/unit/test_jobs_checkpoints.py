"""Checkpoints: exact, whole, and never trusted when they are damaged."""

import errno
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelward.jobs.checkpoints import Checkpoints, Snapshot


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "job", pause=0)
    checkpoints.save("stage", Snapshot({"n": 1}, {"x": np.arange(1000, dtype=np.float32)}))
    return checkpoints


def _file(tmp_path: Path, ending: str) -> Path:
    (found,) = (tmp_path / "job").glob(f"stage*{ending}")
    return found


def test_what_was_kept_comes_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    arrays: dict[str, Any] = {
        "a/b": rng.random((3, 4, 2), np.float32),
        "empty": np.empty((0, 8), np.int64),
        "scalar": np.array(7),
        "transposed": rng.random((5, 6)).T,
    }
    values = {"floats": [0.1, 1e-300, 1 / 3], "state": rng.bit_generator.state, "none": None}
    Checkpoints(tmp_path).save("one", Snapshot(values, arrays))
    found = Checkpoints(tmp_path).load("one")
    assert found is not None
    assert found.values == values
    assert set(found.arrays) == set(arrays)
    for key, value in arrays.items():
        assert found.arrays[key].dtype == value.dtype
        np.testing.assert_array_equal(found.arrays[key], value)
    again = np.random.default_rng(0)
    again.bit_generator.state = found.values["state"]
    assert again.random() == rng.random()


def test_a_new_one_replaces_the_old_one_and_leaves_nothing(
    kept: Checkpoints, tmp_path: Path
) -> None:
    kept.save("stage", Snapshot({"n": 2}, {"x": np.zeros(3)}))
    assert kept.load("stage").values == {"n": 2}  # type: ignore[union-attr]
    assert len(list((tmp_path / "job").iterdir())) == 2
    kept.save("stage", Snapshot({"n": 3}))
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["stage.json"]
    kept.forget("stage")
    assert kept.load("stage") is None
    kept.remove()
    assert not (tmp_path / "job").exists()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        (".json", _flip),
        (".npz", _flip),
        (".npz", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        (".npz", Path.unlink),
        (".json", lambda path: path.write_bytes(path.read_bytes()[:40])),
        (".json", lambda path: path.write_bytes(b"")),
        (".json", lambda path: path.write_bytes(b'"text"')),
    ],
)
def test_damage_counts_as_absence(
    kept: Checkpoints,
    tmp_path: Path,
    ending: str,
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(_file(tmp_path, ending))
    assert kept.load("stage") is None
    assert "is ignored, its work is done again" in caplog.text


def _resign(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    entry = json.loads(path.read_text())
    del entry["sha256"]
    change(entry)
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**entry, "sha256": hashlib.sha256(text.encode()).hexdigest()}))


def test_one_from_another_version_is_not_used(kept: Checkpoints, tmp_path: Path) -> None:
    path = _file(tmp_path, ".json")
    _resign(path, lambda entry: None)
    assert kept.load("stage") is not None
    _resign(path, lambda entry: entry.update(version="0.0.0"))
    assert kept.load("stage") is None


class _Canary:
    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))

    def __init__(self, path: str) -> None:
        self.path = path


def test_pickles_are_neither_written_nor_read(kept: Checkpoints, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected arrays of numbers"):
        kept.save("stage", Snapshot({}, {"x": np.array([{}], object)}))
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([_Canary(str(tmp_path / "canary"))], object))
    path = _file(tmp_path, ".npz")
    path.write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    _resign(
        _file(tmp_path, ".json"),
        lambda entry: entry["arrays"].update(size=len(buffer.getvalue()), sha256=digest),
    )
    assert kept.load("stage") is None
    assert not (tmp_path / "canary").exists()


def test_a_full_disk_costs_the_checkpoint_only(
    kept: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert not kept.save("stage", Snapshot({"n": 2}, {"x": np.zeros(5)}))
        assert not kept.save("stage", Snapshot({"n": 3}))
    assert kept.load("stage").values == {"n": 1}  # type: ignore[union-attr]
    assert len(list((tmp_path / "job").iterdir())) == 2


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.b", "x" * 61])
def test_names_cannot_leave_the_folder(kept: Checkpoints, name: str) -> None:
    with pytest.raises(ValueError, match="expected a name"):
        kept.load(name)


def test_due_waits_for_the_pause(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, pause=0).due()
    assert not Checkpoints(tmp_path, pause=3600).due()
