"""Files as HTTP responses."""

import re
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
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


async def file_response(download: Download, blobs: BlobStore) -> Response:
    """Hand out a file; stored ones are streamed.

    Raises:
        NotFoundError: Its model was deleted, or the file is too old, since it was looked up. It is
            opened before the answer begins, so that a file that is gone is no broken answer.
    """
    headers = {"Content-Disposition": content_disposition(download.filename)}
    if download.blob is None:
        return Response(download.content, headers=headers, media_type=download.media_type)
    size, parts = await run_in_threadpool(blobs.open, download.blob)
    headers["Content-Length"] = str(size)
    return StreamingResponse(parts, headers=headers, media_type=download.media_type)
