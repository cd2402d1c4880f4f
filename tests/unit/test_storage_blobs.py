"""The blob store."""

import contextlib
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelward.domain import NotFoundError
from modelward.storage import BlobStore


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def test_file_comes_back_as_it_went(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    content = bytes(range(256)) * 40_000  # ten megabytes: more than one part
    source.write_bytes(content)
    assert store.put_file("a/b.bin", source) == len(content)
    assert store.fetch("a/b.bin", tmp_path / "x" / "copy").read_bytes() == content
    pieces = list(store.stream("a/b.bin", chunk=1_000_000))
    assert len(pieces) > 1 and b"".join(pieces) == content
    with store.local("a/b.bin") as path:
        assert path.read_bytes() == content


def test_last_write_wins_and_delete_is_repeatable(store: BlobStore) -> None:
    store.put_bytes("k", b"one")
    assert store.put_bytes("k", b"three") == 5
    assert store.read("k") == b"three"
    assert store.exists("k")
    store.delete("k")
    store.delete("k")
    assert not store.exists("k")


def test_keys_below_a_prefix(store: BlobStore) -> None:
    for key in ("jobs/1/a", "jobs/1/b", "jobs/12/a"):
        store.put_bytes(key, b"")
    assert store.keys("jobs/1/") == ["jobs/1/a", "jobs/1/b"]
    assert len(store.keys()) == 3


def test_missing_blob_is_named(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no/such"):
        store.read("no/such")
    with pytest.raises(NotFoundError, match="no/such"), store.local("no/such"):
        pass


def test_keys_cannot_leave_the_store(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(Exception, match=r"(?i)secret|path|segment"):
        store.read("../secret")


def test_what_dead_writers_leave_is_found_and_removed(store: BlobStore, tmp_path: Path) -> None:
    store.put_bytes("a/b.zip", b"whole")
    store.put_bytes("a/c#d.zip", b"a name like any other")
    left = tmp_path / "blobs" / "a" / "b.zip#1"
    left.write_bytes(b"half")
    os.utime(left, (1000, 1000))
    assert store.keys() == ["a/b.zip", "a/c#d.zip"]
    assert [(d.key, d.size) for d in store.drafts(before=2000)] == [("a/b.zip#1", 4)]
    assert store.drafts("a/", before=2000) == store.drafts(before=2000)
    assert store.drafts(before=1000) == store.drafts("other/", before=2000) == []
    store.delete("a/b.zip#1")
    store.delete("a/b.zip#1")
    assert not left.exists() and store.read("a/b.zip") == b"whole"


def test_obstore_hides_its_drafts_under_the_names_that_are_looked_for(tmp_path: Path) -> None:
    """A writer that dies in the middle, by a limit on the size of files."""
    script = (
        "import os, resource, signal, sys; from pathlib import Path\n"
        "from modelward.storage import BlobStore\n"
        "store = BlobStore(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "store.put_bytes('inputs/m/model/1.zip', b'1' * 5000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=120)
    assert done.returncode == -signal.SIGXFSZ
    store = BlobStore(tmp_path)
    assert store.keys() == []
    assert [(d.key, d.size) for d in store.drafts(before=math.inf)] == [
        ("inputs/m/model/1.zip#1", 1000)
    ]


def test_an_opened_blob_is_of_one_moment(store: BlobStore) -> None:
    store.put_bytes("k", b"one")
    size, parts = store.open("k")
    store.put_bytes("k", b"three")
    assert (size, b"".join(parts)) == (3, b"one")
    store.delete("k")
    with pytest.raises(NotFoundError, match="expected a stored file at k"):
        store.stream("k")


def test_walks_go_on_where_others_remove_folders(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        store.put_bytes(f"a/{number}/x", b"1")
        store.delete(f"a/{number}/x")
    store.put_bytes("b/y", b"1")
    (tmp_path / "blobs" / "a" / "9").mkdir()
    (tmp_path / "blobs" / "a" / "9" / "x#1").write_bytes(b"half")
    scandir = os.scandir

    def meddled(path: str) -> Any:
        """Whatever is listed loses a folder before it is looked into."""
        listed = scandir(path)
        if Path(path) == tmp_path / "blobs" / "a":
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(tmp_path / "blobs" / "a" / "3")
        return listed

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", meddled)
        assert [draft.key for draft in store.drafts(before=math.inf)] == ["a/9/x#1"]
        (tmp_path / "blobs" / "a" / "3").mkdir()
        store.sweep()
    assert sorted(path.name for path in (tmp_path / "blobs").rglob("*")) == [
        "9", "a", "b", "x#1", "y",
    ]  # fmt: skip
    store.delete("a/9/x#1")
    store.sweep("b/")
    store.sweep("a/9")
    store.sweep("nothing/")
    assert sorted(path.name for path in (tmp_path / "blobs").rglob("*")) == ["a", "b", "y"]
