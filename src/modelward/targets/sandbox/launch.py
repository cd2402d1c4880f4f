"""Starts bubblewrap for one model; runs as a program of its own, with the standard library only.

A process of its own, because what happens here cannot be undone: limits are set, the mount
namespace is left, the user is given up. Where it starts as root, the paths that the sandbox may
see are bound to a fresh staging folder first, so that an unprivileged bubblewrap reaches them
whatever the modes of the folders above; then root is given up for good. No descriptor but the
three standard ones reaches the sandbox: through an inherited folder, openat("..") would lead back
to the host.

Usage: python -I -S launch.py PLAN, where PLAN is JSON: ``bwrap`` (path), ``binds`` (pairs of host
path and path inside), ``arguments`` of bubblewrap (in which "{N}" stands for bind N, "data:TEXT"
for a descriptor with that text), ``limits`` (name of an RLIMIT to value), ``seccomp`` (hex, may be
empty), ``user`` (id to change to) and ``command``.
"""

import ctypes
import json
import os
import resource
import sys

FAILED = 97
"""Exit code where bubblewrap could not be started."""

_CPU_NOTICE = 5
_NEW_MOUNTS = 0x00020000
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_STAGES = ("/mnt", "/srv", "/media", "/opt", "/var/tmp", "/run", "/tmp")  # noqa: S108
"""Any of these is covered by the staging folder, in this process' own mount namespace only."""


def main() -> None:
    """Prepare and become bubblewrap."""
    plan = json.loads(sys.argv[1])
    os.closerange(3, 1 << 20)
    sources = [source for source, _ in plan["binds"]]
    root = os.geteuid() == 0
    if root:
        sources = _staged(sources, plan["bwrap"])
    _set_limits(plan["limits"])
    if root:
        _give_up_root(int(plan["user"]))
    arguments: list[str] = []
    for argument in plan["arguments"]:
        number = argument[1:-1] if argument.startswith("{") and argument.endswith("}") else ""
        if number.isdigit():
            arguments += [sources[int(number)], plan["binds"][int(number)][1]]
        elif argument.startswith("data:"):
            arguments.append(str(_memory_file(argument.removeprefix("data:").encode())))
        else:
            arguments.append(argument)
    if plan["seccomp"]:
        arguments += ["--seccomp", str(_memory_file(bytes.fromhex(plan["seccomp"])))]
    # Out of argv, so that /proc/1/cmdline inside says nothing of the host.
    given = _memory_file(b"".join(argument.encode() + b"\0" for argument in arguments))
    os.chdir("/")
    command = [plan["bwrap"], "--args", str(given), "--", *plan["command"]]
    os.execve(plan["bwrap"], command, {})  # noqa: S606


def _staged(sources: list[str], program: str) -> list[str]:
    """Bind every source below a folder that everyone may enter; the host does not see it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    try:
        call("unshare", _NEW_MOUNTS)
    except OSError:
        return sources  # root of a container without CAP_SYS_ADMIN; paths must be open to all
    call("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    stage = _stage([*sources, program])
    call("mount", b"staging", stage.encode(), b"tmpfs", _NOSUID | _NODEV | _NOEXEC, b"mode=755")
    staged = []
    for number, source in enumerate(sources):
        target = f"{stage}/{number}"
        if os.path.isdir(source):
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        call("mount", source.encode(), target.encode(), None, _BIND | _RECURSIVE, None)
        staged.append(target)
    return staged


def _stage(needed: list[str]) -> str:
    for folder in _STAGES:
        covers = any((path + "/").startswith(folder + "/") for path in needed)
        # not through a link: /var/tmp may lead into a folder that is needed
        if os.path.isdir(folder) and os.path.realpath(folder) == folder and not covers:
            return folder
    raise OSError(f"expected one folder of {', '.join(_STAGES)} that holds no interpreter")


def _give_up_root(user: int) -> None:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # After the first limit of CPU time comes a signal that says so, after the second the end.
        soft = max(1, most - _CPU_NOTICE) if name == "RLIMIT_CPU" else most
        resource.setrlimit(kind, (soft, most))
    try:
        # The model is the first to go where the machine runs out of memory.
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass


def _memory_file(content: bytes) -> int:
    number = os.memfd_create("plan", 0)
    os.write(number, content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(f"sandbox not started: {error}", file=sys.stderr)
        sys.exit(FAILED)
