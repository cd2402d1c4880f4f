"""A private service on this machine, for as long as a ``with`` block lasts."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from modelward.client.client import Client
from modelward.client.errors import MissingExtraError, ServiceUnreachableError

__all__ = ["LocalService", "require_server"]

_READY = re.compile(r"serving at (https?://\S+)")
_NEEDED = ("fastapi", "sqlalchemy", "torch", "uvicorn")
_LOG_TAIL = 2000


def require_server() -> None:
    """Check that a service can run here.

    Raises:
        MissingExtraError: The ``server`` extra is not installed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"a local service needs packages that are not installed ({', '.join(missing)}). "
            "Run: pip install 'modelward[server]' - or name a running service with "
            "--url, --org-id and --api-key."
        )


class LocalService:
    """Starts ``modelward serve`` on a free loopback port with an organisation of its own.

    The service ends with the block, also when the process gets SIGTERM. ``org_id`` and
    ``api_key`` are secrets and stay out of ``repr``.

    Args:
        data: Data folder, created where it is missing and kept; None: a temporary one.
        startup_seconds: How long the service may take until it answers.
        log: File that takes the service's output; None: a temporary one.
    """

    def __init__(
        self,
        data: Path | str | None = None,
        *,
        startup_seconds: float = 60.0,
        log: Path | str | None = None,
    ) -> None:
        self._startup_seconds = startup_seconds
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._previous_handler: Any = None
        self._given = (data, log)
        self.url = ""
        self.org_id = ""
        self.api_key = ""

    def __repr__(self) -> str:
        return f"LocalService(url={self.url!r}, pid={self.pid})"

    @property
    def pid(self) -> int | None:
        """Process id of the running service."""
        return self._process.pid if self._process else None

    def client(self, **options: Any) -> Client:
        """Make a client for this service; ``options`` go to ``Client``."""
        return Client(self.url, self.org_id, self.api_key, **options)

    def __enter__(self) -> Self:
        require_server()
        data, log = self._given
        self._temporary = tempfile.TemporaryDirectory(
            prefix="modelward-service-", ignore_cleanup_errors=True
        )
        base = Path(self._temporary.name)
        self.data = Path(data) if data is not None else base / "data"
        self.log = Path(log) if log is not None else base / "service.log"
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._catch_sigterm()
            self._create_org()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the service and its workers; harmless when it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                pass
            _kill_group(process)
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _catch_sigterm(self) -> None:
        # The default action ends this process without leaving the block, and the service would
        # stay behind. Whoever has set a handler of his own decides himself.
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._previous_handler = signal.signal(signal.SIGTERM, _exit_on_signal)

    def _create_org(self) -> None:
        command = _command("org", "create", "local", "--data", str(self.data), "--json")
        done = subprocess.run(  # noqa: S603 - our own command line
            command, env=_environment(), capture_output=True, text=True, check=False, timeout=120
        )
        try:
            answer = json.loads(done.stdout)
            self.org_id, self.api_key = str(answer["org_id"]), str(answer["api_key"])
        except (ValueError, KeyError, TypeError):
            raise ServiceUnreachableError(
                f"expected `modelward org create` to print an organisation, it ended with "
                f"{done.returncode}: {done.stderr[-_LOG_TAIL:].strip()}"
            ) from None

    def _start(self) -> None:
        command = _command("serve", "--data", str(self.data), "--port", "0")
        with self.log.open("wb") as output:
            # A session of its own: Ctrl-C reaches us first, and we end the service in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._startup_seconds
        while time.monotonic() < deadline:
            text = self.log.read_text("utf-8", "replace")
            found = _READY.search(text)
            if found and text.endswith("\n"):
                self.url = found.group(1).rstrip(".")
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise ServiceUnreachableError(
            f"expected the local service to start within {self._startup_seconds:g} s; "
            f"its last output was: {self.log.read_text('utf-8', 'replace')[-_LOG_TAIL:].strip()}"
        )


def _command(*arguments: str) -> list[str]:
    # Not the console script, which may not be on the path; -P keeps files that happen to lie in
    # the working directory from being imported.
    return [sys.executable, "-P", "-c", "from modelward.cli import app; app()", *arguments]


def _environment() -> dict[str, str]:
    # How models that carry code are run is a matter of the machine; all else is decided here.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MODELWARD_") or name.startswith("MODELWARD_SANDBOX_")
    }
    return environment | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the service's process group (it leads its own)."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
