"""Parts of the sandbox that need none: the filter of system calls, probing, options."""

import json
import os
import struct
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_need import need_sandbox
from typer.testing import CliRunner

from modelward.cli import app
from modelward.domain import AssessmentError, SandboxOptions
from modelward.jobs.diagnosis import diagnose
from modelward.jobs.sandboxing import sandbox_options
from modelward.settings import Settings, load_settings, show_settings
from modelward.targets.sandbox import probe, sandbox_available
from modelward.targets.sandbox.frames import (
    ARRAY,
    ERROR,
    HEADER,
    TEXT,
    check_head,
    read_array,
    read_hello,
)
from modelward.targets.sandbox.seccomp import filter_program

ALLOW, DENY, MISSING, NO_FAMILY, KILL = 0x7FFF0000, 0x50001, 0x50026, 0x50061, 0x80000000
X86, ARM = 0xC000003E, 0xC00000B7


def verdict(program: bytes, architecture: int, number: int, argument: int = 0) -> int:
    """Runs classic BPF as the kernel does."""
    data = struct.pack("<IIQQ", number, architecture, 0, argument)
    at = value = 0
    while True:
        code, yes, no, constant = struct.unpack_from("<HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, constant)
        elif code == 0x06:
            return constant
        else:
            holds = {0x15: value == constant, 0x35: value >= constant, 0x45: value & constant}
            at += yes if holds[code] else no


@pytest.mark.parametrize(
    ("machine", "architecture", "calls"),
    [
        ("x86_64", X86, {"read": 0, "openat": 257, "mount": 165, "unshare": 272, "ptrace": 101,
                         "clone": 56, "clone3": 435, "socket": 41, "memfd": 319, "bpf": 321}),
        ("aarch64", ARM, {"read": 63, "openat": 56, "mount": 40, "unshare": 97, "ptrace": 117,
                          "clone": 220, "clone3": 435, "socket": 198, "memfd": 279, "bpf": 280}),
    ],
)  # fmt: skip
def test_the_filter(machine, architecture, calls):
    program = filter_program(machine)

    def ask(name, argument=0):
        return verdict(program, architecture, calls[name], argument)

    assert {name: ask(name) for name in ("read", "openat", "clone")} == dict.fromkeys(
        ("read", "openat", "clone"), ALLOW
    )
    for name in ("mount", "unshare", "ptrace", "bpf"):
        assert ask(name) == DENY, name
    assert ask("clone3") == ask("memfd") == MISSING
    assert ask("clone", 0x003D0F00) == ALLOW, "a thread"
    assert ask("clone", 0x10000000 | 17) == DENY, "a user namespace"
    assert [ask("socket", family) for family in (1, 2, 10)] == [ALLOW] * 3
    assert [ask("socket", family) for family in (16, 17, 38, 40)] == [NO_FAMILY] * 4
    assert verdict(program, 0x40000003, 0) == KILL, "another architecture's numbers"
    assert verdict(program, architecture, 0x40000000 + 1) == DENY, "x32"


def test_no_filter_for_a_machine_whose_numbers_are_not_known():
    assert filter_program("riscv64") == b""


@pytest.fixture
def bwrap(monkeypatch):
    """Puts a script in the place of bubblewrap."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)

        def install(text: str) -> None:
            path = Path(folder, "bwrap")
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
            monkeypatch.setenv("PATH", folder)
            monkeypatch.setattr(probe, "_known", {})

        yield install


def test_a_binary_that_is_there_is_not_enough(bwrap):
    bwrap("echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    available, reason = sandbox_available()
    assert not available
    assert "No permissions to create new namespace" in reason


def test_a_missing_binary(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(probe, "_known", {})
    available, reason = sandbox_available()
    assert not available
    assert "apt-get install bubblewrap" in reason


def test_the_sandbox_can_be_switched_off():
    assert sandbox_available(SandboxOptions(enabled=False)) == (
        False,
        "it is switched off by the setting sandbox.enabled",
    )


def test_probing_is_remembered(monkeypatch):
    runs = []

    def run(options):
        runs.append(options)
        return True, "a sandbox ran", True

    monkeypatch.setattr(probe, "_known", {})
    monkeypatch.setattr(probe, "_run", run)
    assert sandbox_available()[0]
    assert sandbox_available()[0]
    assert len(runs) == 1
    assert sandbox_available(SandboxOptions(processes=20))[0]
    assert len(runs) == 2, "other limits are another sandbox"


CLOSED = {"uid": 65534, "interfaces": ["lo"], "processes": ["1", "2"], "etc": ["ld.so.cache"]}


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({}, ""),
        ({"uid": 0}, "runs as user 0"),
        ({"interfaces": ["lo", "eth0"]}, "eth0"),
        ({"processes": ["1", "2", "3", "77"]}, "77"),
        ({"processes": None}, "processes None"),
        ({"etc": ["passwd"]}, "passwd"),
    ],
)
def test_a_sandbox_that_does_not_hold_is_none(seen, said):
    assert said in probe._leaks({**CLOSED, **seen})
    assert bool(probe._leaks({**CLOSED, **seen})) == bool(said)


@given(
    raw=st.binary(min_size=HEADER.size, max_size=HEADER.size)
    | st.builds(
        HEADER.pack,
        st.just(b"MWSB"),
        st.integers(0, 4),
        st.integers(0, 4),
        st.integers(0, 5),
        st.just(0),
        st.integers(6, 8),
        *[st.sampled_from([0, 1, 5, 10_000, 2**31, 2**32 - 1])] * 4,
        st.sampled_from([0, 20, 40, 400_000, 64_000, 64_001, 2**63]),
    ),
    wanted=st.sampled_from([TEXT, ARRAY]),
)
def test_no_header_makes_the_service_read_without_bound(raw, wanted):
    try:
        head = check_head(raw, 7, wanted=wanted, rows=5)
    except AssessmentError:
        return
    assert head.kind in (wanted, ERROR)
    if head.kind == ARRAY:
        assert head.shape[0] == 5
        assert head.length <= 5 * 10_000 * 8
        assert read_array(head, bytes(head.length)).shape[0] == 5
    else:
        assert head.length <= 64_000


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 50_000, b"[]", b'{"input": "x"}', b'{"input": [1,2,3,4,5]}', b'{"input": [-1]}',
     b'{"input": [true]}', b'{"notes": "x"}', b'{"notes": [1]}', b'{"framework": 3}',
     b'{"classes": 1e9}', b"\xff"],
)  # fmt: skip
def test_descriptions_out_of_form(content):
    with pytest.raises(AssessmentError, match="out of the sandbox in the agreed form"):
        read_hello(content)


def test_a_description():
    said = read_hello(b'{"framework": "a\\u001b[2J b", "input": [null, 3], "notes": ["n\\nm"]}')
    assert said["framework"] == "a?[2J b"
    assert (said["input"], said["notes"], said["classes"]) == ([None, 3], ["n m"], None)


def test_options_from_every_source(tmp_path, monkeypatch):
    path = tmp_path / "settings.toml"
    path.write_text('[sandbox]\ninterpreters = ["/a/python"]\nprocesses = 20\n')
    assert load_settings(path).sandbox.interpreters == (Path("/a/python"),)
    monkeypatch.setenv("MODELWARD_SANDBOX_INTERPRETERS", "/b/python:/c/python")
    monkeypatch.setenv("MODELWARD_SANDBOX_ENABLED", "false")
    settings = load_settings(path)
    assert settings.sandbox.interpreters == (Path("/b/python"), Path("/c/python"))
    assert settings.sandbox.processes == 20
    assert not settings.sandbox.enabled
    assert "sandbox.interpreters = /b/python:/c/python" in show_settings(settings)


def test_defaults_are_our_own_python_and_the_data_folder_is_private(tmp_path):
    beside = tmp_path / ".venv-tf" / "bin" / "python"
    options = sandbox_options(Settings(data=tmp_path))
    assert options.interpreters[0] == Path(sys.executable)
    assert options.private == (tmp_path,)
    if len(options.interpreters) == 1:
        beside.parent.mkdir(parents=True)
        beside.touch()
        assert sandbox_options(Settings(data=tmp_path)).interpreters[1] == beside
    named = Settings(data=tmp_path, sandbox=SandboxOptions(interpreters=(Path("/x"),)))
    assert sandbox_options(named).interpreters == (Path("/x"),)


def test_doctor_on_a_machine_that_has_everything(tmp_path):
    need_sandbox()
    done = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path), "--json"])
    answer = json.loads(done.stdout)
    states = {row["check"]: row["state"] for row in answer["checks"]}
    assert states["python"] == states["data folder"] == states["sandbox"] == "ok"
    assert states["interpreter"] == states["extra server"] == states["clock"] == "ok"
    assert done.exit_code == (0 if answer["fine"] else 3)


def test_doctor_says_how_to_get_a_sandbox(bwrap, tmp_path):
    bwrap("echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1")
    done = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path)])
    assert done.exit_code == 3
    assert "uid map: Permission denied" in done.stdout
    assert "user namespaces" in done.stdout
    assert "seccomp" in done.stdout


def test_doctor_on_an_old_bubblewrap(bwrap, tmp_path):
    bwrap("echo 'bwrap: Unknown option --size' >&2; exit 1")
    done = CliRunner().invoke(app, ["doctor", "--data", str(tmp_path)])
    assert done.exit_code == 3
    assert "install bubblewrap 0.8 or newer" in done.stdout


def test_doctor_names_settings_that_do_not_fit(tmp_path):
    blocker = tmp_path / "file"
    blocker.touch()
    settings = Settings(
        data=blocker / "data",
        sandbox=SandboxOptions(enabled=False, interpreters=(tmp_path / "no-python",)),
    )
    checks = {check.name: check for check in diagnose(settings)}
    for name, said in (
        ("data folder", "name another one with --data"),
        ("sandbox", "MODELWARD_SANDBOX_ENABLED"),
        ("interpreter", "MODELWARD_SANDBOX_INTERPRETERS"),
    ):
        assert checks[name].state == "missing"
        assert said in checks[name].fix
    assert checks["tensorflow"].state == "absent"
    assert "make tensorflow" in checks["tensorflow"].fix


def test_doctor_refuses_settings_that_are_wrong(monkeypatch):
    monkeypatch.setenv("MODELWARD_SANDBOX_PROCESSES", "many")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 2
    assert "sandbox.processes" in done.stderr
