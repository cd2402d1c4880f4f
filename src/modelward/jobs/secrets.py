"""Secrets of the service: organisation ids, API keys, signed link tokens."""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass

from modelward.domain import AccessDeniedError

__all__ = ["Signer", "hash_secret", "mask", "new_api_key", "new_organisation_id"]

_ORGANISATION, _KEY = "mwo-", "mwk-"
# in a query (name=value), a header (Name: value), a printed mapping or list of pairs; what our
# own messages say about a header is no secret
_BETWEEN = r"""(?:["']*\s*[=:]\s*|["'],\s*)(?:b(?=["']))?["']*(?!(?:expected|this)\b)"""
_SCHEME = r"(?:(?:bearer|basic|splunk|sharedkey|digest)\s+)?"
_SECRETS = re.compile(
    r"(?P<kind>mw[ok]-)[A-Za-z0-9_-]{8,}"
    rf"|(?P<name>\b(?:token|org[-_]id|x[-_]api[-_]key|password){_BETWEEN})[^&\s\"',]+"
    rf"|(?P<header>\b(?:authorization|cookie){_BETWEEN}{_SCHEME})[^\s\"',]+",
    re.IGNORECASE,
)


def new_organisation_id() -> str:
    """A new organisation id: 192 random bits, URL-safe, recognisable in a log."""
    return _ORGANISATION + secrets.token_urlsafe(24)


def new_api_key() -> str:
    """A new API key: 256 random bits, URL-safe, recognisable in a log."""
    return _KEY + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """SHA-256 in hex; enough for secrets of this entropy, where guessing is hopeless."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def mask(text: str) -> str:
    """The text with organisation ids, keys, link tokens and credentials replaced by ``***``."""
    return _SECRETS.sub(
        lambda found: (found["kind"] or found["name"] or found["header"]) + "***", text
    )


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


@dataclass(frozen=True)
class Signer:
    """Signs small claims into URL-safe tokens (HMAC-SHA256) and reads them back."""

    key: bytes
    """Signs."""
    older: tuple[bytes, ...] = ()
    """Keys whose tokens are still read."""

    def _mac(self, body: str, key: bytes | None = None) -> bytes:
        return hmac.new(key or self.key, body.encode(), hashlib.sha256).digest()

    def _genuine(self, body: str, mac: bytes) -> bool:
        return any(
            hmac.compare_digest(mac, self._mac(body, key)) for key in (self.key, *self.older)
        )

    def sign(self, purpose: str, subject: str, expires: float) -> str:
        """A token that opens ``subject`` for ``purpose`` until ``expires`` (seconds, UTC)."""
        claims = {"p": purpose, "s": subject, "e": expires}
        body = _encode(json.dumps(claims, separators=(",", ":")).encode())
        return f"{body}.{_encode(self._mac(body))}"

    def check(self, token: str | None, purpose: str, subject: str, now: float) -> None:
        """Let only a genuine, living token for exactly this purpose and subject pass.

        Raises:
            AccessDeniedError: Missing, tampered, foreign or expired token.
        """
        if not token:
            raise AccessDeniedError("token: expected a signed token in the link; there is none")
        body, _, signature = token.partition(".")
        try:
            genuine = self._genuine(body, _decode(signature))
            claims = json.loads(_decode(body)) if genuine else {}
        except (binascii.Error, ValueError, UnicodeError):
            genuine, claims = False, {}
        if not genuine or claims.get("p") != purpose or claims.get("s") != subject:
            raise AccessDeniedError(
                "token: expected the token that was signed for this link; got another or an "
                "altered one. Use the link exactly as it was handed out"
            )
        if claims["e"] <= now:
            raise AccessDeniedError("token: this link has expired; ask for a new one")
