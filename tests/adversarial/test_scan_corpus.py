"""The corpus: every hostile file is called something else than clean, every benign one clean."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpus import BENIGN, HOSTILE, Canary

from modelward.scan import Verdict, scan_path


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


@pytest.mark.parametrize("name", BENIGN)
def test_benign(name: str, tmp_path: Path):
    report = scan_path(BENIGN[name](tmp_path))
    assert report.verdict is Verdict.CLEAN, (report.findings, report.unread)
    assert report.complete


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
    "file-npy-objects": "__import__('numpy').load(path, allow_pickle=True)",
    "file-torch-zip": "__import__('torch').load(path, weights_only=False)",
    "file-gzip": "__import__('joblib').load(path)",
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
