"""The corpus: every hostile file is called something else than clean, every benign one clean."""

import io
import pickle
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from corpus import BENIGN, HOSTILE, Canary

from modelward.scan import Level, Limits, Verdict, scan_path
from modelward.scan.limits import Budget
from modelward.scan.pickle_names import effective
from modelward.scan.pickle_walk import walk


def test_the_corpus_is_large_enough():
    assert len(HOSTILE) >= 60
    assert len(BENIGN) >= 40


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tmp_path: Path):
    with Canary(tmp_path) as canary:
        folder = tmp_path / "files"
        folder.mkdir()
        path = HOSTILE[name](folder, canary)
        assert not canary.sang, "the builder itself ran the payload"
        report = scan_path(path)
        assert not canary.sang, "the scan ran the payload"
    assert report.verdict is not Verdict.CLEAN
    # what ends a script: findings, or something that was not read
    assert report.at_least(Level.MEDIUM) or not report.complete or name == "source"


@pytest.mark.parametrize("name", BENIGN)
def test_benign(name: str, tmp_path: Path):
    report = scan_path(BENIGN[name](tmp_path))
    assert report.verdict is Verdict.CLEAN, (report.findings, report.unread)
    assert report.complete


class Recorder(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """The unpickler itself, noting what it looks up."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.found: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:
            module, name = effective(module, name, 2)
        self.found.add((module, name))
        return super().find_class(module, name)


@pytest.mark.parametrize("name", [name for name in BENIGN if name.startswith("pickle-")])
def test_the_walk_sees_what_the_unpickler_looks_up(name: str, tmp_path: Path):
    content = BENIGN[name](tmp_path).read_bytes()
    recorder = Recorder(io.BytesIO(content))
    recorder.load()
    stream = walk(io.BytesIO(content), Budget(Limits()))
    assert set(stream.globals) == recorder.found
    assert stream.broken is None
    assert stream.end == len(content)


SEEDS = (
    "pickle-arrays", "joblib-forest", "torch-state", "torch-legacy", "keras-plain.keras",
    "numpy-a.npz", "onnx-weights", "safetensors", "gguf", "tarball", "text-gzip",
)  # fmt: skip


@settings(
    deadline=None, max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), max_size=12),
    st.floats(0, 1),
)
def test_damaged_files_end_in_a_report(
    tmp_path: Path, name: str, changes: list[tuple[float, int]], length: float
):
    """Nothing raises, nothing runs for ever; a part that is cut off is never clean."""
    content = bytearray(_seed(name))
    whole = len(content)
    for at, value in changes:
        content[int(at * whole)] = value
    del content[max(32, int(length * whole)) :]
    path = tmp_path / "file"
    path.write_bytes(content)
    report = scan_path(path, limits=Limits(seconds=60))
    assert report.parts
    if len(content) < whole and not changes:
        assert report.verdict is not Verdict.CLEAN


@cache
def _seed(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return BENIGN[name](Path(folder)).read_bytes()


LOADERS = {
    "call-os.system": "pickle.load(open(path, 'rb'))",
    "call-builtins.eval": "pickle.load(open(path, 'rb'))",
    "call-timeit.timeit": "pickle.load(open(path, 'rb'))",
    "stream-stack-global-memo": "pickle.load(open(path, 'rb'))",
    "stream-inst": "pickle.load(open(path, 'rb'))",
    "stream-breaks-after-the-call": "pickle.load(open(path, 'rb'))",
    "stream-hexadecimal-number": "pickle.load(open(path, 'rb'))",
    "stream-non-ascii-noise": "pickle.load(open(path, 'rb'))",
    "stream-joblib-raw-array": "pickle.load(open(path, 'rb'))",
    "stream-joblib-object-array": "__import__('joblib').load(path)",
    **{
        f"stream-joblib-{name}": "__import__('joblib').load(path)"
        for name in ("flags", "size", "shape-twice", "alignment", "frame")
    },
    "stream-torch-from-bytes": "pickle.load(open(path, 'rb'))",
    "file-npy-objects": "__import__('numpy').load(path, allow_pickle=True)",
    "file-torch-zip": "__import__('torch').load(path, weights_only=False)",
    "file-gzip": "__import__('joblib').load(path)",
    **{
        f"trick-pickle-{name}": "pickle.load(open(path, 'rb'))"
        for name in ("grown-bytes", "handed-on", "handed-on-as-method")
    },
    "trick-pickle-stacked-path": "pickle.load(open(path, 'rb')).predict("
    "__import__('numpy').ones((2, 3)))",
    "trick-pickle-behind-the-frame": "f = __import__('io').BytesIO(open(path, 'rb').read())\n"
    "pickle.load(f)\npickle.load(f)",
    "trick-pickle-arguments-by-list": "__import__('joblib').load(path)",
    **{
        f"trick-keras-{name}": "import os\nos.environ['KERAS_BACKEND'] = 'torch'\n"
        "__import__('keras').models.load_model(path, safe_mode=False)"
        for name in ("between", "in-comment")
    },
    "trick-npy-as-storage": "__import__('numpy').load(path, allow_pickle=True)['data/0']",
    "trick-yaml-other-name": "__import__('yaml').unsafe_load(open(path, 'rb'))",
    "trick-npz-in-comment": "__import__('numpy').load(path, allow_pickle=True)['a']",
}


@pytest.mark.parametrize("name", LOADERS)
def test_the_payload_is_real(name: str, tmp_path: Path):
    """Whoever loads such a file wakes the canary: the corpus is no straw man."""
    with Canary(tmp_path) as canary:
        path = HOSTILE[name](tmp_path, canary)
        assert not canary.sang
        script = f"import pickle\npath = {str(path)!r}\n{LOADERS[name]}"
        subprocess.run(  # it may fail once the payload has run
            [sys.executable, "-c", script], capture_output=True, timeout=120, check=False
        )
        assert canary.sang


@pytest.mark.parametrize("name", ["tensor-address", "bunch-address", "parameter-class"])
def test_the_address_is_believed(name: str, tmp_path: Path):
    """Loading such a pickle ends the process by a signal: the address in it was used."""
    with Canary(tmp_path) as canary:
        path = HOSTILE[f"making-{name}"](tmp_path, canary)
        script = f"import pickle\npickle.load(open({str(path)!r}, 'rb'))"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, timeout=120, check=False,
            cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode < 0, done.stderr[-500:]
