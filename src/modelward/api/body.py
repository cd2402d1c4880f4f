"""Streams an upload to a file: raw or multipart, told apart by content, not by header."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from streaming_form_data import ParseFailedException, StreamingFormDataParser
from streaming_form_data.targets import BaseTarget

from modelward.domain import AccessDeniedError, InvalidInputError, PayloadTooLargeError

__all__ = ["drain", "receive_upload"]

_FLUSH = 1024 * 1024
_HEAD = 512
_LOOK = 16 * 1024 * 1024
"""Bytes between two looks at the space that is left."""
_FORM_SLACK = 64 * 1024
"""Bytes of a form that are not its file: boundaries, headers, other fields."""
_DRAIN_BYTES = 8 * 1024 * 1024
_DRAIN_SECONDS = 2.0
_FORM_TYPE = re.compile(r"\s*multipart/form-data\s*(?:;|$)", re.IGNORECASE)
_GIVEN_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]*)"|([^\s;"]*))', re.IGNORECASE)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=?-]{1,200}")


class _Spool:
    """Collects bytes and writes them out about a megabyte at a time."""

    def __init__(self, path: Path, limit: int) -> None:
        self._file = path.open("wb")
        self._limit = limit
        self._pending = bytearray()
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        # Never raises: it is called from inside the form parser's C code.
        self.size += len(chunk)
        if self.size <= self._limit:
            self._pending += chunk

    async def settle(self, *, last: bool = False) -> None:
        if self.size > self._limit:
            raise PayloadTooLargeError(f"upload: expected at most {self._limit} bytes; got more")
        if self._pending and (last or len(self._pending) >= _FLUSH):
            await run_in_threadpool(self._file.write, self._pending)
            self._pending = bytearray()
        if last:
            await run_in_threadpool(self._file.flush)

    def close(self) -> None:
        # What is left in the buffer where a write failed does not fit now either.
        with contextlib.suppress(OSError):
            self._file.close()


class _FilePart(BaseTarget):  # type: ignore[misc]
    def __init__(self, spool: _Spool) -> None:
        super().__init__()
        self._spool = spool
        self.started = 0
        self.finished = 0

    def on_start(self) -> None:
        self.started += 1

    def on_data_received(self, chunk: bytes) -> None:
        self._spool.feed(chunk)

    def on_finish(self) -> None:
        self.finished += 1


class _KeyPart(BaseTarget):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.value = b""

    def on_data_received(self, chunk: bytes) -> None:
        self.value = (self.value + chunk)[:1024]


class _Form:
    """A multipart body; parts in any order, unknown ones are skipped."""

    def __init__(self, boundary: bytes, spool: _Spool) -> None:
        header = f'multipart/form-data; boundary="{boundary.decode()}"'
        self._parser: Any = StreamingFormDataParser({"Content-Type": header})
        self._spool = spool
        self._received = 0
        self._file, self._key = _FilePart(spool), _KeyPart()
        self._parser.register("file", self._file)
        self._parser.register("key", self._key)

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.data_received(chunk)
        except ParseFailedException as error:
            raise InvalidInputError(
                f"upload: expected a multipart form; it is damaged ({error})"
            ) from None
        self._received += len(chunk)
        # The parser keeps a header until its line ends, and takes long over many parts.
        if self._received - self._spool.size > _FORM_SLACK + len(chunk):
            raise PayloadTooLargeError(
                f"upload: expected at most {_FORM_SLACK} bytes besides the file in the form; got "
                "more"
            )
        if self._file.started > 1:
            raise InvalidInputError("upload: expected one form part named file; got several")

    def end(self, key: str) -> None:
        if self._file.started == 0:
            raise InvalidInputError("upload: expected a form part named file; there is none")
        if self._file.finished == 0:
            raise InvalidInputError("upload: expected a complete form; it breaks off in the file")
        if self._key.value and self._key.value.decode("utf-8", "replace").strip() != key:
            raise AccessDeniedError(
                "key: expected the form field that was handed out with this URL; got another"
            )


def _find_boundary(head: bytes, content_type: str | None) -> bytes | None:
    """The boundary of a multipart body, None for a raw one."""
    if head.startswith(b"PK"):
        return None
    if head.startswith(b"--"):
        boundary = head[2:].split(b"\r\n", 1)[0]
    else:
        declared = content_type or ""
        if not _FORM_TYPE.match(declared):
            return None
        given = _GIVEN_BOUNDARY.search(declared)
        # headers are read as latin-1; a boundary is ASCII
        boundary = (given[1] or given[2] or "").encode("ascii", "replace") if given else b""
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidInputError("upload: expected a multipart form; its boundary is not readable")
    return boundary


async def receive_upload(
    request: Request, path: Path, *, limit: int, key: str, room: Callable[[int], None]
) -> None:
    """Write the uploaded file to ``path``; memory stays at a few megabytes.

    Args:
        request: Raw body, or a form with a part ``file``.
        path: New file.
        limit: Most bytes that the file may have.
        key: What the form field ``key`` must hold where there is one.
        room: Raises where the disk has no room for so many bytes more; see
            ``Uploads.require_room``.

    Raises:
        InvalidInputError: Damaged or incomplete form.
        PayloadTooLargeError: More than ``limit`` bytes; found by the header where there is one.
        StorageFullError: What ``room`` raises.
        AccessDeniedError: The form field ``key`` belongs to another URL.
    """
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isascii() and declared.isdigit() else 0
    if size > limit + _FORM_SLACK:
        raise PayloadTooLargeError(f"upload: expected at most {limit} bytes; got {declared}")
    room(size)
    spool = _Spool(path, limit)
    try:
        await _receive(request, spool, key, room)
    finally:
        spool.close()


async def _receive(request: Request, spool: _Spool, key: str, room: Callable[[int], None]) -> None:
    head, decided, looked = bytearray(), False, 0
    form: _Form | None = None

    def decide() -> None:
        nonlocal form, decided
        boundary = _find_boundary(bytes(head), request.headers.get("content-type"))
        form = _Form(boundary, spool) if boundary else None
        decided = True

    def feed(chunk: bytes) -> None:
        if form is None:
            spool.feed(chunk)
        else:
            form.feed(chunk)

    async for chunk in request.stream():
        if decided:
            feed(chunk)
        else:
            head += chunk
            if len(head) >= _HEAD:
                decide()
                feed(bytes(head))
        await spool.settle()
        if spool.size - looked >= _LOOK:
            room(0)
            looked = spool.size
    if not decided:
        decide()
        feed(bytes(head))
    if form is not None:
        form.end(key)
    await spool.settle(last=True)


async def drain(request: Request) -> None:
    """Throw away a small refused body, so that its sender gets to read the answer."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            seen = 0
            async for chunk in request.stream():
                seen += len(chunk)
                if seen > _DRAIN_BYTES:
                    return
    except (TimeoutError, ClientDisconnect, RuntimeError):
        # RuntimeError: the body was consumed already.
        return
