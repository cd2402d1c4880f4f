"""Headers that every answer carries."""

import base64
import hashlib
import re

from starlette.datastructures import MutableHeaders

__all__ = ["DEFAULT_POLICY", "docs_policy", "secure"]

DEFAULT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HSTS = "max-age=31536000"
_SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<text>.*?)</script>", re.DOTALL)


def secure(headers: MutableHeaders, *, tls: bool) -> None:
    """Add what is missing; answers may bring a policy of their own.

    Args:
        headers: Of an answer that is about to be sent.
        tls: Whether clients reach the service by https.
    """
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("Content-Security-Policy", DEFAULT_POLICY)
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
    if tls:
        headers.setdefault("Strict-Transport-Security", _HSTS)


def docs_policy(page: str) -> str:
    """The policy of a page of the API documentation: its own inline scripts by their hashes.

    The pages come from a library; they style elements from scripts and draw icons from data
    addresses, ReDoc searches in a worker that it makes itself.
    """
    hashes = sorted(
        f"'sha256-{base64.b64encode(hashlib.sha256(found['text'].encode()).digest()).decode()}'"
        for found in _SCRIPT.finditer(page)
        if "src=" not in found["attributes"] and found["text"].strip()
    )
    return "; ".join(
        [
            "default-src 'none'",
            " ".join(["script-src 'self'", *hashes]),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "worker-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
