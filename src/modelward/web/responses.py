"""Files as HTTP responses."""

import re
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from modelward.jobs import Download
from modelward.storage import BlobStore

__all__ = ["content_disposition", "file_response"]

_PLAIN = re.compile(r"[^A-Za-z0-9._ -]")


def content_disposition(filename: str) -> str:
    """The header that saves a file under a name, whatever is in the name.

    Line breaks, quotes and characters that turn the direction of writing never reach the header
    as they are: old clients read a plain name, others the exact one, percent-encoded (RFC 6266).
    """
    filename = filename or "file"
    plain = _PLAIN.sub("_", filename)
    exact = quote(filename.encode("utf-8", "replace"), safe="")
    more = "" if plain == filename else f"; filename*=UTF-8''{exact}"
    return f'attachment; filename="{plain}"{more}'


def file_response(download: Download, blobs: BlobStore) -> Response:
    """Hand out a file; stored ones are streamed."""
    headers = {
        "Content-Disposition": content_disposition(download.filename),
        "Content-Length": str(download.size),
    }
    if download.blob is None:
        return Response(download.content, headers=headers, media_type=download.media_type)
    return StreamingResponse(
        blobs.stream(download.blob), headers=headers, media_type=download.media_type
    )
