"""A model's process in the sandbox, and the conversation with it."""

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from numpy.typing import NDArray

from modelward.domain import AssessmentError, SandboxOptions
from modelward.targets.sandbox import frames
from modelward.targets.sandbox.bubblewrap import launch_plan, process_limit
from modelward.targets.sandbox.interpreters import Interpreter
from modelward.targets.sandbox.launch import FAILED
from modelward.targets.sandbox.watch import Watch

__all__ = ["MissingModuleError", "SandboxProcess"]

_LAUNCH = Path(__file__).with_name("launch.py")
_KEPT_BYTES = 8 * 2**10
_MOST_PRINTED = 16 * 2**20
_PIPE_BYTES = 2**20
_SET_PIPE_SIZE = 1031
_GRACE_SECONDS = 5.0


class MissingModuleError(AssessmentError):
    """The model needs a package that its interpreter does not have."""


@dataclass
class _Fate:
    """What threads find out about the process; they must not hold the object itself alive."""

    process: subprocess.Popen[bytes]
    ended: str | None = None
    printed: bytes = b""

    def end(self, reason: str) -> None:
        self.ended = reason
        self.process.kill()

    def drain(self) -> None:
        """Read what the model prints, keep the end of it; after too much, listen no longer."""
        pipe = self.process.stderr
        assert pipe is not None  # noqa: S101 - asked for by the caller
        total = 0
        with pipe, contextlib.suppress(OSError, ValueError):
            while total < _MOST_PRINTED:
                part = os.read(pipe.fileno(), 2**16)
                if not part:
                    return
                total += len(part)
                self.printed = (self.printed + part)[-_KEPT_BYTES:]


class SandboxProcess:
    """One model, loaded once, asked many times; use as a context manager or ``close`` it.

    The sandbox dies with the thread that made this object, so make it in one that lasts.

    Args:
        interpreter: Runs the model.
        exchange: Folder that holds the model's files; its user inside must be able to read them.
        config: What the program inside needs to know, plain JSON: ``kind`` and more.
        options: Limits.
        proc: Whether to mount /proc.

    Attributes:
        hello: What the program inside said of the model, checked.

    Raises:
        AssessmentError: The sandbox did not start, or the model did not load; with the reason.
        MissingModuleError: A package is missing.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        exchange: Path | None,
        config: dict[str, Any],
        options: SandboxOptions,
        *,
        proc: bool = True,
    ) -> None:
        self._options = options
        self._asked = 0
        plan = launch_plan(interpreter, exchange, options, proc=proc)
        self._process = subprocess.Popen(  # noqa: S603 - our own program and interpreter
            [sys.executable, "-I", "-S", str(_LAUNCH), plan],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={},
            cwd="/",
            umask=0o022,  # it may give up root, and reads again what it made before
        )
        self._to, self._from = _pipe(self._process.stdin), _pipe(self._process.stdout)
        self._fate = _Fate(self._process)
        self._reader = threading.Thread(target=self._fate.drain, name="sandbox-log", daemon=True)
        self._reader.start()
        watch = Watch(self._process.pid, options.memory_bytes, self._fate.end)
        self._close = weakref.finalize(self, _stop, self._process, watch, self._reader)
        try:
            told = {**config, "processes": process_limit(options)}
            deadline = time.monotonic() + options.load_seconds
            self._send(frames.pack(frames.TEXT, 0, json.dumps(told).encode()), deadline)
            _, content = self._receive(0, frames.TEXT, 0, deadline)
            self.hello = frames.read_hello(content)
        except BaseException:
            self.close()
            raise

    def ask(self, batch: NDArray[Any]) -> NDArray[Any]:
        """The model's answer to a batch.

        Args:
            batch: (n, ...) float32 or float64.

        Returns:
            (n, values) float32, float64 or int64; nothing is promised about the values.

        Raises:
            AssessmentError: An error of the model, an answer out of form, or none in time.
        """
        if not self._close.alive:
            raise AssessmentError("model: expected a running sandbox; this one was closed")
        self._asked += 1
        deadline = time.monotonic() + self._options.answer_seconds
        try:
            if _ready(self._from, select.POLLIN, 0) and self._process.poll() is None:
                raise AssessmentError(
                    "model: expected silence between questions; it writes into the pipe of its "
                    "predictions without being asked"
                )
            self._send(frames.pack(frames.ARRAY, self._asked, batch), deadline)
            head, content = self._receive(self._asked, frames.ARRAY, len(batch), deadline)
        except BaseException:
            self.close()
            raise
        return frames.read_array(head, content)

    def close(self) -> None:
        """End everything in the sandbox."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, content: bytes, deadline: float) -> None:
        rest = memoryview(content)
        while rest:
            self._wait(self._to, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self._to, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._gone() from None

    def _receive(
        self, number: int, wanted: int, rows: int, deadline: float
    ) -> tuple[frames.Head, bytes]:
        raw = self._read(frames.HEADER.size, deadline)
        head = frames.check_head(raw, number, wanted=wanted, rows=rows)
        content = self._read(head.length, deadline)
        if head.kind == frames.ERROR:
            raise _model_error(frames.text(content))
        return head, content

    def _read(self, size: int, deadline: float) -> bytes:
        parts, left = [], size
        while left:
            self._wait(self._from, select.POLLIN, deadline)
            try:
                part = os.read(self._from, min(left, _PIPE_BYTES))
            except BlockingIOError:
                continue
            if not part:
                raise self._gone()
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _wait(self, pipe: int, event: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not _ready(pipe, event, left):
            loading = self._asked == 0
            limit = self._options.load_seconds if loading else self._options.answer_seconds
            what = "load" if loading else "answer a batch"
            raise AssessmentError(
                f"model: expected it to {what} within {limit:g} s; it did not and was ended; use "
                f"a smaller model, or raise sandbox.{'load' if loading else 'answer'}_seconds"
            )

    def _gone(self) -> AssessmentError:
        """Why the process is no more, as far as it can be told."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
        self._reader.join(_GRACE_SECONDS)
        code = self._process.returncode
        reason = self._fate.ended or f"its process ended with code {code}"
        if self._fate.ended is None and code in (128 + 24, -24):
            reason = f"it used up its {self._options.cpu_seconds} s of CPU time"
        lines = [line for line in self._fate.printed.splitlines() if line.strip()]
        words = frames.text(lines[-1]) if lines else ""
        if code == FAILED and self._asked == 0 and "sandbox not started" in words:
            return AssessmentError(
                f"sandbox: expected it to start; got: {words}. The cause is this machine or its "
                "settings, not the model: `modelward doctor` says what is missing"
            )
        last = f"; last words: {words}" if words else ""
        return AssessmentError(f"model: it was ended in the sandbox: {reason}{last}")


def _stop(process: subprocess.Popen[bytes], watch: Watch, reader: threading.Thread) -> None:
    watch.stop()
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    reader.join(_GRACE_SECONDS)
    for pipe in (process.stdin, process.stdout):
        if pipe and not pipe.closed:
            pipe.close()


def _ready(pipe: int, event: int, seconds: float) -> bool:
    """Whether a pipe can be used, or was closed at the other end, within a time."""
    waiting = select.poll()  # unlike select, it takes descriptors of any number
    waiting.register(pipe, event)
    return bool(waiting.poll(seconds * 1000))


def _pipe(stream: IO[bytes] | None) -> int:
    import fcntl

    assert stream is not None  # noqa: S101 - asked for by the caller
    number = stream.fileno()
    os.set_blocking(number, False)
    with contextlib.suppress(OSError):  # fewer pages than wanted are allowed per user
        fcntl.fcntl(number, _SET_PIPE_SIZE, _PIPE_BYTES)
    return number


def _model_error(said: str) -> AssessmentError:
    kind = said.partition(":")[0]
    if kind in ("ModuleNotFoundError", "ImportError"):
        return MissingModuleError(
            f"model: expected its packages in the interpreter of the sandbox; got {said}"
        )
    return AssessmentError(f"model: expected it to load and answer in the sandbox; got {said}")
