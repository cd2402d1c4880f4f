"""The worker's first stage: the scan decides before anything opens the upload."""

import json
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelward.domain import AssessmentError
from modelward.jobs.pipelines.image_extraction import opening, stages


class Evil:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return eval, ("1 + 1",)


@pytest.fixture
def explore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the stage on an archive of the given members; loading is noted, not done."""
    loaded: list[Path] = []

    def load(path: Path, **_: Any) -> SimpleNamespace:
        loaded.append(path)
        return SimpleNamespace(notes=[])

    monkeypatch.setattr(opening, "load_keras", load)
    config = SimpleNamespace(
        input_shape=(4, 3, 1),
        number_of_classes=3,
        normalize_data=True,
        color_space=None,
        encryption_strategy=0,
    )
    state = SimpleNamespace(config=config, notes=[], loaded=loaded)

    def packed(slot: str, members: dict[str, bytes]) -> Path:
        path = tmp_path / slot
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    def run(members: dict[str, bytes], data: dict[str, bytes] | None = None) -> Any:
        path = packed("upload", members)
        label = packed("label", {"label.csv": b"image,label\n"})
        context = SimpleNamespace(
            config=config,
            inputs={"model": path, "data": packed("data", data or {}), "label": label},
            workdir=tmp_path,
            progress=lambda share, text: None,
        )
        stages.explore_model(context, state)  # type: ignore[arg-type]
        return state

    run.state = state  # type: ignore[attr-defined]
    return run


def weights() -> bytes:
    import io

    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["w"] = [1.0, 2.0]
        config = {"class_name": "Sequential", "config": {"name": "m", "layers": []}}
        file.attrs["model_config"] = json.dumps(config)
    return buffer.getvalue()


def test_clean_upload_is_loaded_and_noted(explore: Any):
    state = explore({"model.h5": weights(), "README.md": b"# notes\n"})
    assert len(state.loaded) == 1
    assert state.notes == ["The model file was scanned before it was opened: clean (3 passed)."]


def test_a_hostile_file_beside_the_model_is_enough(explore: Any):
    with pytest.raises(AssessmentError, match=r"MW-PKL-001 \(critical\) at upload!extra/x\.bin"):
        explore({"model.h5": weights(), "extra/x.bin": pickle.dumps(Evil())})
    assert explore.state.loaded == []


def test_code_among_the_images_is_refused_and_a_wrong_ending_is_not(explore: Any):
    png = b"\x89PNG\r\n\x1a\n" + bytes(40)
    state = explore({"model.h5": weights()}, {"0.jpg": png, "notes.doc": b"\x01\xff\x00" * 50})
    assert len(state.loaded) == 1
    with pytest.raises(AssessmentError, match=r"data: expected .* MW-PKL-001 \(critical\)"):
        explore({"model.h5": weights()}, {"0.png": png, "1.png": pickle.dumps(Evil())})
    assert len(state.loaded) == 1


def test_a_part_that_cannot_be_read_stops_the_job(explore: Any):
    with pytest.raises(AssessmentError, match=r"scan can read to its end; got upload!old\.pkl"):
        explore({"model.h5": weights(), "old.pkl": b"\x80\x04N"})
    assert explore.state.loaded == []


def test_foreign_formats_beside_the_model_are_left_alone(explore: Any):
    state = explore({"model.h5": weights(), "blob.dat": b"\x01\xff\x00" * 50})
    assert len(state.loaded) == 1
    assert "incomplete (2 passed, 1 skipped)" in state.notes[0]
