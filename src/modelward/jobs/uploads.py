"""Uploads: a signed link per slot, checked before the body, inspected before it counts."""

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelward.data import inspect_archive
from modelward.domain import (
    ConflictError,
    InvalidInputError,
    StorageFullError,
    UploadDialect,
    slots,
)
from modelward.jobs.links import Links
from modelward.jobs.registrations import Registration, Registrations, Upload
from modelward.storage import BlobStore, make_folder

__all__ = ["Ticket", "Uploads"]

_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Ticket:
    """Leave to upload one slot, given after the link was checked."""

    model_id: str
    slot: str
    path: Path
    """New file to stream the body into; whoever holds the ticket removes it."""
    key: str
    """What the form field ``key`` holds where the client sends one."""
    organisation: int
    """Whose registration it is."""


class Uploads:
    """Issues upload links and takes in what comes through them."""

    def __init__(
        self,
        data: Path,
        registrations: Registrations,
        blobs: BlobStore,
        links: Links,
        *,
        reserve: int = 0,
        inspect: Callable[[Path], object] = inspect_archive,
    ) -> None:
        """Take uploads into a data folder.

        Args:
            data: The folder.
            registrations: Whose slots they fill.
            blobs: Where they are kept.
            links: Signs and checks their addresses.
            reserve: Bytes that must stay free on the disk.
            inspect: Refuses what is no acceptable archive.
        """
        self._incoming = data / "incoming"
        self._reserve = reserve
        self._registrations = registrations
        self._blobs = blobs
        self._links = links
        self._inspect = inspect

    def start(self) -> None:
        """Remove what uploads left when the service was killed."""
        make_folder(self._incoming)
        for leftover in self._incoming.glob("*.part"):
            leftover.unlink(missing_ok=True)

    def urls(self, registration: Registration) -> dict[str, Any]:
        """The ``urls`` of a registration, in the dialect that its spelling asked for."""
        urls: dict[str, Any] = {}
        for slot in slots(registration.task, registration.analysis):
            url = self._links.upload(registration.id, slot)
            if registration.dialect is UploadDialect.PUT:
                urls[f"{slot}_upload_url"] = url
            else:
                fields = {"key": _key(registration.id, slot)}
                urls[f"{slot}_upload_url"] = {"url": url, "fields": fields}
        return urls

    def admit(self, model_id: str, slot: str, token: str | None) -> Ticket:
        """Check a link before any of the body is read.

        Raises:
            AccessDeniedError: Missing, tampered, foreign or expired token.
            ConflictError: Analysis has started.
            NotFoundError: The registration is gone.
        """
        self._links.check_upload(model_id, slot, token)
        registration = self._registrations.get_unscoped(model_id)
        if registration.locked:
            raise ConflictError(
                f"upload of {slot}: expected before the analysis; it has started. "
                "Register the model again to analyse other files"
            )
        make_folder(self._incoming)
        path = self._incoming / f"{uuid.uuid4().hex}.part"
        return Ticket(
            model_id=model_id,
            slot=slot,
            path=path,
            key=_key(model_id, slot),
            organisation=registration.organisation,
        )

    def require_room(self, size: int) -> None:
        """Refuse an upload that would take the last space.

        One tenant's uploads must not keep the jobs of all from writing their reports.

        Args:
            size: Bytes that are still to come, 0 where that is not known.

        Raises:
            StorageFullError: The reserve would be touched.
        """
        free = shutil.disk_usage(self._incoming).free
        if free - size < self._reserve:
            raise StorageFullError(
                f"upload: expected {(size + self._reserve) / 2**20:,.0f} MiB of free space, of "
                f"which {self._reserve / 2**20:,.0f} are kept for reports (disk_reserve_bytes); "
                f"the disk is full but for {free / 2**20:,.0f}. Make room (`modelward gc "
                "--older-than 30d` removes old uploads and artifacts) and send it again",
                retry_after=_RETRY_SECONDS,
            )

    def check(self, ticket: Ticket) -> None:
        """Look through a completely received archive; takes most of a second for the largest.

        Raises:
            InvalidInputError: Not an archive, or one that is refused.
            PayloadTooLargeError: Declared content above the limits.
        """
        if ticket.path.stat().st_size == 0:
            raise InvalidInputError(
                f"upload of {ticket.slot}: expected a zip archive; got no bytes"
            )
        self._inspect(ticket.path)

    def accept(self, ticket: Ticket) -> int:
        """Make an archive that was checked the slot's current one.

        Returns:
            Its size in bytes.

        Raises:
            ConflictError: Analysis started while the body was on its way; nothing is kept.
            StorageFullError: No room to keep it.
        """
        size = ticket.path.stat().st_size
        self.require_room(size)  # for a moment there are two of it
        blob = f"inputs/{ticket.model_id}/{ticket.slot}/{ticket.path.stem}.zip"
        self._blobs.put_file(blob, ticket.path)
        try:
            previous = self._registrations.record(
                ticket.model_id,
                Upload(slot=ticket.slot, blob=blob, size=size),
                ticket.organisation,
            )
        except BaseException:
            self._blobs.delete(blob)
            raise
        if previous:
            self._blobs.delete(previous)
        return size


def _key(model_id: str, slot: str) -> str:
    return f"{model_id}/{slot}.zip"
