"""What `modelward doctor` finds out about a machine."""

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from modelward.domain import SandboxOptions
from modelward.jobs.sandboxing import sandbox_options
from modelward.settings import Settings
from modelward.targets.sandbox import find_interpreters, sandbox_available

__all__ = ["Check", "diagnose"]

OK, MISSING, ABSENT = "ok", "missing", "absent"
_LEAST_FREE_BYTES = 5 * 2**30
_OLDEST_CLOCK = 1_735_689_600
"""2025-01-01: a clock before that was never set."""
_NEWEST_CLOCK = 4_102_444_800
"""2100-01-01."""
_EXTRAS = {
    "server": ("torch", "keras", "fastapi", "sqlalchemy", "sklearn", "PIL", "typst"),
    "mlflow": ("mlflow",),
    "sentinel": ("azure.identity", "azure.monitor.ingestion"),
}
_OPTIONAL_EXTRAS = frozenset({"mlflow", "sentinel"})
_USERNS_SWITCHES = {
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "1"),
    "/proc/sys/user/max_user_namespaces": ("0", "15000"),
}
"""Settings of the kernel that forbid user namespaces: the forbidding value and a good one."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: str
    """``ok``, ``missing`` (something does not work), or ``absent`` (optional, and not there)."""
    found: str
    fix: str = ""
    """What to do about it."""

    @property
    def fine(self) -> bool:
        """Whether nothing needs to be done."""
        return self.state != MISSING


def diagnose(settings: Settings) -> list[Check]:
    """Look at everything the service needs; a sandbox is really run.

    Args:
        settings: The effective settings.
    """
    options = sandbox_options(settings)
    return [
        _python(),
        *(_extra(name) for name in _EXTRAS),
        _data_folder(settings.data),
        _disk(settings.data),
        _clock(),
        _sandbox(options),
        *_interpreters(options),
        _tensorflow(options),
    ]


def _python() -> Check:
    fine = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    return Check("python", OK if fine else MISSING, found, "" if fine else "install Python 3.11")


def _extra(name: str) -> Check:
    lacking = [module for module in _EXTRAS[name] if not _importable(module)]
    if not lacking:
        return Check(f"extra {name}", OK, _versions(name))
    state = ABSENT if name in _OPTIONAL_EXTRAS else MISSING
    fix = f"pip install 'modelward[{name}]'"
    return Check(f"extra {name}", state, f"without {', '.join(lacking)}", fix)


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing
        return False


def _versions(name: str) -> str:
    shown = {"server": ("torch", "keras"), "mlflow": ("mlflow",)}.get(name, ("azure-identity",))
    found = []
    for package in shown:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(package)
    return ", ".join(found)


def _data_folder(data: Path) -> Check:
    name = "data folder"
    place = data.absolute()
    while not place.exists():
        place = place.parent
    new = "" if place == data.absolute() else f" (to be made in {place})"
    fix = f"make {place} a folder that this user may write to, or name another one with --data"
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
    except OSError as error:
        return Check(name, MISSING, f"{data.absolute()}: {error.strerror}", fix)
    return Check(name, OK, f"{data.absolute()} is writable{new}")


def _disk(data: Path) -> Check:
    place = data.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    fine = free >= _LEAST_FREE_BYTES
    fix = "" if fine else f"make room: {_LEAST_FREE_BYTES >> 30} GiB are the least for uploads"
    return Check("disk space", OK if fine else MISSING, f"{free / 2**30:.1f} GiB free", fix)


def _clock() -> Check:
    now = time.time()
    fine = _OLDEST_CLOCK < now < _NEWEST_CLOCK
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    fix = "" if fine else "set the clock: upload links, keys and TLS depend on it"
    return Check("clock", OK if fine else MISSING, found, fix)


def _sandbox(options: SandboxOptions) -> Check:
    available, reason = sandbox_available(options)
    if available:
        who = "root, which is given up" if os.geteuid() == 0 else f"user {os.geteuid()}"
        return Check("sandbox", OK, f"{reason}, started as {who}")
    return Check("sandbox", MISSING, reason, _sandbox_fix(options, reason))


def _sandbox_fix(options: SandboxOptions, reason: str) -> str:
    """The way to a sandbox, by what is in its way."""
    if not options.enabled:
        return "set sandbox.enabled (MODELWARD_SANDBOX_ENABLED) to true, or leave it so"
    if not shutil.which("bwrap") or "Unknown option" in reason:
        return (
            "install bubblewrap 0.8 or newer (Debian, Ubuntu: apt-get install bubblewrap; Fedora: "
            "dnf install bubblewrap). Without it, models that carry code are refused"
        )
    steps = []
    for path, (forbidding, good) in _USERNS_SWITCHES.items():
        try:
            value = Path(path).read_text().strip()
        except OSError:
            continue
        if value == forbidding:
            setting = path.removeprefix("/proc/sys/").replace("/", ".")
            steps.append(f"sysctl -w {setting}={good} allows user namespaces (it is {value})")
    steps.append(
        "a container needs user namespaces and mounts inside them: with Docker or Podman "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined (or a seccomp profile that allows clone, unshare, "
        "mount, umount2 and pivot_root), and a user other than root, or root with --cap-add "
        "SYS_ADMIN; docs/sandbox.md says more"
    )
    return "; ".join(steps)


def _interpreters(options: SandboxOptions) -> list[Check]:
    found, problems = find_interpreters(options)
    checks = []
    for one in found:
        fine = "numpy" in one.modules
        libraries = ", ".join(sorted(one.modules)) or "no library that models need"
        fix = "" if fine else f"{one.path} -m pip install numpy"
        text = f"Python {one.version} at {one.path} ({libraries})"
        checks.append(Check("interpreter", OK if fine else MISSING, text, fix))
    fix = "correct the setting sandbox.interpreters (MODELWARD_SANDBOX_INTERPRETERS)"
    return checks + [Check("interpreter", MISSING, problem, fix) for problem in problems]


def _tensorflow(options: SandboxOptions) -> Check:
    found, _ = find_interpreters(options)
    for one in found:
        if "tensorflow" in one.modules:
            return Check("tensorflow", OK, f"for SavedModel: {one.path}")
    fix = (
        "only SavedModel uploads need it: make tensorflow, or name an interpreter that has "
        "TensorFlow in sandbox.interpreters"
    )
    return Check("tensorflow", ABSENT, "none, SavedModel uploads are refused", fix)
