"""The plan of one sandbox: what is bound, which limits hold, what the program inside is told."""

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from modelward.domain import AssessmentError, SandboxOptions
from modelward.targets.sandbox.interpreters import Interpreter
from modelward.targets.sandbox.seccomp import filter_program

__all__ = ["INSIDE", "find_bubblewrap", "launch_plan"]

INSIDE = "/model"
"""The exchange folder as the model sees it; read only."""

_CHILD = Path(__file__).with_name("child.py")
_USER = 65534
"""Nobody: inside, and on the host where the service runs as root."""
_ADDRESS_ALLOWANCE = 12 * 2**30
"""Address space beyond the memory limit: libraries reserve far more than they use."""
_SHARED_MEMORY = 64 * 2**20
_HOME_BYTES = 16 * 2**20
_OPEN_FILES = 256
_COUNTED_PER_NAMESPACE = (5, 14)
"""Kernel from which processes are counted per user namespace, not per user of the machine."""


def find_bubblewrap() -> str:
    """Path of the program.

    Raises:
        AssessmentError: It is not installed.
    """
    found = shutil.which("bwrap")
    if not found:
        raise AssessmentError(
            "bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap; "
            "Fedora: dnf install bubblewrap)"
        )
    return os.path.realpath(found)


_NAMESPACES = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts",
    "--unshare-cgroup-try", "--uid", str(_USER), "--gid", str(_USER), "--hostname", "sandbox",
    "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv",
)  # fmt: skip


def launch_plan(
    interpreter: Interpreter, exchange: Path | None, options: SandboxOptions, *, proc: bool
) -> str:
    """The argument of ``launch.py``.

    Args:
        interpreter: Runs the model.
        exchange: Folder with the model, or None for the probe.
        options: Limits.
        proc: Whether to mount /proc; some containers do not allow it.

    Raises:
        AssessmentError: bubblewrap is missing, or a folder that must stay private would be seen.
    """
    binds = [*interpreter.binds, (str(_CHILD), "/sandbox/child.py")]
    system, links = _system_libraries()
    binds += system
    arguments = [*_NAMESPACES, *links]
    if exchange is not None:
        # The launcher works in /.
        exchange = exchange.absolute()
        binds.append((str(exchange), INSIDE))
    _refuse_private([source for source, _ in binds if source != str(exchange)], options)
    # Scratch first: an interpreter may live below /tmp or a home.
    python = str(interpreter.path.absolute())
    arguments += ["--proc", "/proc"] if proc else _proc_stand_in(python)
    arguments += ["--dev", "/dev", "--perms", "1777", "--size", str(_SHARED_MEMORY)]
    arguments += ["--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108 - in the sandbox
    for size, folder in ((options.file_bytes, "/tmp"), (_HOME_BYTES, "/home/model")):  # noqa: S108
        arguments += ["--perms", "1777", "--size", str(size), "--tmpfs", folder]
    # A folder before what lies in it.
    binds.sort(key=lambda bind: bind[1])
    for number in range(len(binds)):
        arguments += ["--ro-bind", f"{{{number}}}"]
    arguments += ["--remount-ro", "/", "--chdir", INSIDE if exchange else "/"]
    for name, value in _environment(interpreter, options).items():
        arguments += ["--setenv", name, value]
    return json.dumps(
        {
            "bwrap": find_bubblewrap(),
            "binds": binds,
            "arguments": arguments,
            "command": [python, "-I", "-B", "/sandbox/child.py"],
            "limits": _limits(options),
            "seccomp": filter_program().hex(),
            "user": _USER,
        }
    )


def _system_libraries() -> tuple[list[tuple[str, str]], list[str]]:
    """Folders of shared libraries with what the loader needs to find them, and links among them."""
    binds, links = [], []
    for folder in ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64"):
        if os.path.islink(folder):
            links += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            binds.append((folder, folder))
    for path in ("/etc/ld.so.cache", "/etc/alternatives"):  # the latter holds links to libraries
        if os.path.exists(path):
            binds.append((path, path))
    return binds, links


def _proc_stand_in(python: str) -> list[str]:
    """The two files without which TensorFlow does not start, where /proc cannot be mounted."""
    return [
        *("--symlink", python, "/proc/self/exe"),
        *("--ro-bind-data", f"data:{python}\0", "/proc/self/cmdline"),
    ]


def process_limit(options: SandboxOptions) -> int:
    """RLIMIT_NPROC for the model; set inside, where only its own processes count.

    Older kernels count every thread of the user on the machine, so those are added there.
    """
    release = platform.release().split(".")
    try:
        known = (int(release[0]), int(release[1])) >= _COUNTED_PER_NAMESPACE
    except (ValueError, IndexError):
        known = False
    return options.processes if known else options.processes + _threads_of_user()


def _threads_of_user() -> int:
    user = os.geteuid() or _USER
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


def _refuse_private(sources: list[str], options: SandboxOptions) -> None:
    for private in options.private:
        for source in sources:
            if Path(os.path.realpath(private)).is_relative_to(os.path.realpath(source)):
                raise AssessmentError(
                    f"sandbox: expected {private} outside of what models may see; it lies in "
                    f"{source}, which the interpreter needs; move one of them"
                )


def _limits(options: SandboxOptions) -> dict[str, int]:
    return {
        "RLIMIT_DATA": options.memory_bytes,
        "RLIMIT_AS": options.memory_bytes + _ADDRESS_ALLOWANCE,
        "RLIMIT_CPU": options.cpu_seconds + 5,  # the last five after a notice
        "RLIMIT_FSIZE": options.file_bytes,
        "RLIMIT_NOFILE": _OPEN_FILES,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }


def _environment(interpreter: Interpreter, options: SandboxOptions) -> dict[str, Any]:
    threads = str(min(options.threads, os.cpu_count() or 1))
    keras = "tensorflow" if "tensorflow" in interpreter.modules else "torch"
    return {
        "HOME": "/home/model",
        "TMPDIR": "/tmp",  # noqa: S108 - in the sandbox
        "PATH": str(interpreter.path.absolute().parent),
        "LANG": "C.UTF-8",
        "USER": "model",
        "LOGNAME": "model",
        "KERAS_BACKEND": keras,
        "KERAS_HOME": "/home/model/.keras",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "GOMP_SPINCOUNT": "50000",
        "MALLOC_ARENA_MAX": "8",
    }
