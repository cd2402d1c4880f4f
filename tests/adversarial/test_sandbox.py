"""A hostile model in the sandbox: what it tries fails, and the same code outside succeeds."""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modelward.domain import AssessmentError, SandboxOptions
from modelward.jobs import create_organisation
from modelward.jobs.signing import SigningKeys
from modelward.settings import Settings
from modelward.storage import BlobStore
from modelward.targets.sandbox import Exchange, SandboxedModel, open_sandboxed, sandbox_available
from modelward.targets.sandbox.watch import descendants

ATTACKS = Path(__file__).with_name("sandbox_attacks.py")
MIB = 2**20
ANSWER = 64 * 1024
"""Images asked about, so bytes that an attack can report."""


@pytest.fixture(autouse=True, scope="module")
def _sandbox():
    available, reason = sandbox_available()
    if not available:
        if os.environ.get("MODELWARD_REQUIRE_SANDBOX") == "1":
            pytest.fail(f"needs a sandbox: {reason}")
        pytest.skip(f"needs a sandbox: {reason}")


def hostile(folder: Path, attack: str, wanted: dict, **limits) -> SandboxedModel:
    folder.mkdir(exist_ok=True)
    (folder / "base_model.py").write_bytes(ATTACKS.read_bytes())
    (folder / "plan.json").write_text(json.dumps([attack, wanted]))
    options = SandboxOptions(**{"memory_bytes": 512 * MIB, "answer_seconds": 60, **limits})
    return open_sandboxed(
        Exchange("base_model", folder),
        input_shape=(1, 1, 1),
        classes=256,
        normalize_data=True,
        color_space=None,
        options=options,
    )


def inside(folder: Path, attack: str, wanted: dict, **limits):
    """What the attack achieves in the sandbox, read off its predictions."""
    with contextlib.closing(hostile(folder, attack, wanted, **limits)) as model:
        answers = model.predict(np.zeros((ANSWER, 1, 1, 1), np.float32))
    text = bytes(answers.argmax(1).astype(np.uint8)).rstrip(b"\0").decode()
    return json.loads(text)


def outside(attack: str, wanted: dict, **more):
    """What the same code achieves as an ordinary program."""
    command = [sys.executable, str(ATTACKS), attack, json.dumps(wanted)]
    run = subprocess.run(command, check=True, capture_output=True, timeout=100, **more)
    return json.loads(run.stdout)


SECRET = "parent-secret-b1946ac9"


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """One look around, inside and outside, at a data folder with everything in it."""
    data = tmp_path_factory.mktemp("service")
    create_organisation(Settings(data=data), "tenant")
    SigningKeys(data, longest_life=60)
    BlobStore(data / "blobs").put_bytes("uploads/other-tenant/model", b"blob of another tenant")
    files = [path for path in data.rglob("*") if path.is_file() and path.stat().st_size]
    assert any(b"SQLite format 3" in path.read_bytes()[:20] for path in files)
    assert any("sign" in path.name or "key" in path.name for path in files), files
    assert any(b"another tenant" in path.read_bytes() for path in files)
    bystander = subprocess.Popen([sys.executable, "-c", "input()", "bystander-4d2c"],
                                 stdin=subprocess.PIPE)  # fmt: skip
    leaked = os.open(data, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            wanted = {
                "files": [*map(str, files), "/etc/passwd", "/etc/hostname", "/proc/1/maps"],
                "secret": SECRET,
                "address": server.getsockname(),
                "folders": ["/", "/model", "/usr/lib", "/etc", "/dev", "/sandbox", "/home",
                            "/proc/self", str(Path(np.__file__).parent), "/tmp", "/dev/shm"],
                "most": 8 * MIB,
                "process": bystander.pid,
                "known": ["dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "proc", "tmp",
                          "usr", "sandbox", "model"],
            }  # fmt: skip
            folder = tmp_path_factory.mktemp("models") / "hostile"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MODELWARD_TEST_SECRET", SECRET)
                seen = inside(folder, "look", wanted, file_bytes=4 * MIB)
                free = outside("look", wanted, pass_fds=(leaked,))
            return seen, free, [str(path) for path in files]
    finally:
        os.close(leaked)
        bystander.communicate(b"\n")


def test_files_of_the_service_and_of_other_tenants(looked):
    seen, free, files = looked
    for path in [*files, "/etc/passwd"]:
        assert isinstance(free["files"][path], str), "outside, the attack reads it"
        assert seen["files"][path] == {"error": "FileNotFoundError", "number": 2}
        assert seen["climbed"][path] == []
    assert any(free["climbed"][path] for path in files), "outside, a leaked folder leads to it"


def test_environment_of_the_service(looked):
    seen, free, _ = looked
    assert any(free["secret"])
    assert seen["secret"], "it looked"
    assert not any(seen["secret"])
    assert not [name for name in seen["environment"] if name.startswith("MODELWARD")]


def test_network(looked):
    seen, free, _ = looked
    assert free["connected"] == "connected"
    assert seen["connected"]["error"] == "ConnectionRefusedError", "its loopback is its own"


def test_processes_of_the_host(looked):
    seen, free, _ = looked
    assert any("bystander-4d2c" in str(text) for text in free["commands"].values())
    assert free["killed"] == "reached"
    assert len(seen["commands"]) <= 3
    assert not any("bystander" in str(text) for text in seen["commands"].values())
    assert not any(str(Path.home()) in str(text) and "--bind" in str(text)
                   for text in seen["commands"].values())  # fmt: skip
    assert seen["killed"]["error"] == "ProcessLookupError"


def test_writing(looked):
    seen, free, _ = looked
    written = {folder for folder, result in seen["written"].items() if result == "written"}
    assert written == {"/tmp", "/dev/shm"}
    assert {"/tmp", "/dev/shm"} <= {f for f, result in free["written"].items() if result}
    assert seen["filled"] <= 4 * MIB < free["filled"]
    assert seen["shared"] <= 4 * MIB < free["shared"]


def test_descriptors(looked):
    seen, free, _ = looked
    assert "folder" in free["descriptors"].values(), "outside, one was left open"
    assert {"0", "1", "2"} <= set(seen["descriptors"]), "it looked"
    assert set(seen["descriptors"].values()) == {"pipe", "device"}


def test_kernel_surface(looked):
    seen, free, _ = looked
    assert seen["user"] != 0
    if isinstance(seen["capabilities"], list):  # there is no /proc in some containers
        assert all(int(mask, 16) == 0 for mask in seen["capabilities"])
    assert free["namespace"] == free["unseen"] == free["unix"] == "made"
    assert seen["namespace"] == "refused"
    assert seen["unseen"]["error"] == "OSError"
    assert seen["unix"] == "made", "the filter lets honest sockets be"
    assert seen["hypervisor"] == {"error": "OSError", "number": 97}
    assert seen["raised"]["error"] in ("ValueError", "PermissionError")
    assert seen["core"] == 0


def test_the_root_holds_nothing_but_the_interpreter(looked):
    seen, _, _ = looked
    tops = {Path(os.path.abspath(place)).parts[1] for place in
            (sys.executable, sys.base_prefix, *sys.path) if place}  # fmt: skip
    assert set(seen["signing"]) <= tops


def test_a_fork_bomb_ends_at_the_limit(tmp_path):
    wanted = {"most": 60}
    assert outside("forks", wanted) == 60
    assert 0 < inside(tmp_path / "m", "forks", wanted, processes=24) < 24


def test_memory_of_one_process(tmp_path):
    wanted = {"most": 768}
    assert outside("memory", wanted) == 768
    assert 100 < inside(tmp_path / "m", "memory", wanted) < 512


def test_memory_of_many_processes(tmp_path):
    model = hostile(tmp_path / "m", "crowd", {"processes": 6, "each": 150})
    with pytest.raises(AssessmentError, match="more than the 512 MiB of memory it may have"):
        model.predict(np.zeros((16, 1, 1, 1), np.float32))
    assert gone(model)


def test_a_model_that_never_answers(tmp_path):
    model = hostile(tmp_path / "m", "hang", {}, answer_seconds=1)
    with pytest.raises(AssessmentError, match=r"answer a batch within 1 s.*answer_seconds"):
        model.predict(np.zeros((16, 1, 1, 1), np.float32))
    assert gone(model)


def test_a_model_that_never_loads(tmp_path):
    with pytest.raises(AssessmentError, match=r"load within 2 s.*sandbox.load_seconds"):
        hostile(tmp_path / "m", "hang", {"at_once": True}, load_seconds=2)


def test_cpu_time(tmp_path):
    model = hostile(tmp_path / "m", "spin", {}, cpu_seconds=1)
    with pytest.raises(AssessmentError, match="used up its 1 s of CPU time"):
        model.predict(np.zeros((16, 1, 1, 1), np.float32))
    assert gone(model)


def gone(model: SandboxedModel) -> bool:
    """Whether nothing of a sandbox is left; waits for a moment."""
    process = model._process._process
    return bool(
        wait_for(
            lambda: process.poll() is not None and list(descendants(process.pid)) == [process.pid]
        )
    )


def test_the_death_of_the_job_process(tmp_path):
    """Killed without a chance to clean up, it takes the sandbox with it."""
    (tmp_path / "base_model.py").write_bytes(ATTACKS.read_bytes())
    (tmp_path / "plan.json").write_text(json.dumps(["hang", {"at_once": True}]))
    script = (
        "import sys; from pathlib import Path; from modelward.domain import SandboxOptions\n"
        "from modelward.targets.sandbox import Exchange, open_sandboxed\n"
        "open_sandboxed(Exchange('base_model', Path(sys.argv[1])), input_shape=(1, 1, 1), "
        "classes=2, normalize_data=True, color_space=None, options=SandboxOptions())"
    )
    job = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        inside = wait_for(lambda: [p for p in descendants(job.pid) if runs_child(p)])
        for process in inside:
            assert os.stat(f"/proc/{process}").st_uid != 0, "root of the host is given up"
            assert Path(f"/proc/{process}/oom_score_adj").read_text() == "1000\n"
        job.kill()
        assert wait_for(lambda: not any(runs_child(p) for p in inside))
    finally:
        job.kill()
        job.wait()


def runs_child(process: int) -> bool:
    """Whether a process is the program inside a sandbox; a dead one has no command line."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        return b"/sandbox/child.py" in words and b"--args" not in words
    return False


def wait_for(condition):
    """The first true result of a condition within 20 seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("expected within 20 s")


def head(*, kind=2, code=2, rank=1, number=2, sides=(16, 0, 0, 0), length=128, magic=b"MWSB"):
    return struct.pack("<4sBBBBI4IQ", magic, kind, code, rank, 0, number, *sides, length)


FORGED = {
    "more rows": (head(sides=(17, 0, 0, 0), length=136), r"16 rows of 1 to .*shape \(17,\)"),
    "too wide": (head(rank=2, sides=(16, 10**9, 0, 0), length=2**40), r"shape \(16, 1000000000\)"),
    "too long": (head(length=2**62), "4611686018427387904 bytes for an array"),
    "a type of objects": (head(code=9), "numbers of unknown type 9"),
    "too many axes": (head(rank=200), "an array of 200 axes"),
    "hidden axes": (head(rank=1, sides=(16, 7, 0, 0)), "an array of 1 axes"),
    "another question": (head(number=77), "question 77 instead of 2"),
    "a text": (head(kind=1), "a message of kind 1"),
    "a pickle": (b"\x80\x04" + b"cos\nsystem\n" * 4, "does not start as one"),
    "a huge error": (head(kind=3, length=2**31), "a text of 2147483648 bytes"),
}


@pytest.mark.parametrize(("message", "said"), FORGED.values(), ids=FORGED)
def test_forged_messages(tmp_path, message, said):
    model = hostile(tmp_path / "m", "forge", {"message": message.hex()})
    with pytest.raises(AssessmentError, match=f"model: expected .*{said}"):
        model.predict(np.zeros((16, 1, 1, 1), np.float32))


def test_a_forged_error_is_one_printable_line(tmp_path):
    text = b"\x1b[2J<script>\nforged\x00" + b"x" * 1000
    message = head(kind=3, code=0, rank=0, sides=(0,) * 4, length=len(text)) + text
    model = hostile(tmp_path / "m", "forge", {"message": message.hex()})
    with pytest.raises(AssessmentError, match="<script> forged") as caught:
        model.predict(np.zeros((16, 1, 1, 1), np.float32))
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_a_flood_in_the_pipe(tmp_path):
    model = hostile(tmp_path / "m", "flood", {"times": 1000})
    with pytest.raises(AssessmentError, match="does not start as one"):
        model.predict(np.zeros((16, 1, 1, 1), np.float32))
    assert gone(model)


def test_speaking_without_being_asked(tmp_path):
    with contextlib.closing(hostile(tmp_path / "m", "chatter", {})) as model:
        model.predict(np.zeros((16, 1, 1, 1), np.float32))
        time.sleep(1)
        with pytest.raises(AssessmentError, match="without being asked"):
            model.predict(np.zeros((16, 1, 1, 1), np.float32))


def test_what_it_prints_is_read_and_forgotten(tmp_path):
    with contextlib.closing(hostile(tmp_path / "m", "shout", {"times": 400})) as model:
        model.predict(np.zeros((16, 1, 1, 1), np.float32))
        assert len(model._process._fate.printed) <= 8192
