"""One careful HTTP POST, and what a sink made of the answer."""

import http.client
import ipaddress
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

__all__ = ["Outcome", "Poster", "Reply", "checked_url", "refused"]

TIMEOUT_SECONDS = 10.0
ANSWER_BYTES = 65_536
SLOW_RETRY_SECONDS = 60.0
"""How soon a refused key is tried again: somebody has to mend it first."""
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_WISH = 3600.0
"""Most seconds that a receiver may ask for: no header silences a defence for good."""
LONGEST_FIELD = 32_000
"""Bytes of one text field; the Data Collector cuts at 32 KB without a word."""


class Outcome(NamedTuple):
    """What became of a batch."""

    status: str
    """``accepted``, ``retry`` (keep and send again) or ``rejected`` (malformed, never again)."""
    reason: str = ""
    retry_after: float | None = None
    """Seconds that the receiver wants to be left alone."""
    rejected_ids: tuple[str, ...] = ()
    """Event ids that were rejected, where the receiver says which; empty: it does not say."""


class Reply(NamedTuple):
    """An HTTP answer; status None where there was none."""

    status: int | None
    body: str = ""
    retry_after: float | None = None
    date: float | None = None
    """The receiver's clock, seconds since 1970."""
    problem: str = ""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Credentials go where they were meant to go and nowhere else."""

    def redirect_request(self, *_arguments: object) -> None:
        """Never follow."""
        return


def is_local(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_url(name: str, url: str, *, allow_http: bool) -> str:
    """Hold an address against what may be sent to.

    Args:
        name: Argument to blame in the message.
        url: Address with scheme and host.
        allow_http: Whether plain http may leave this machine.

    Returns:
        The address without a trailing slash.

    Raises:
        ValueError: No http(s) address, one with a password in it, or plain http to elsewhere.
    """
    text = str(url).strip()
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(
            f"{name}: expected an address such as https://host:8088; {error}"
        ) from None
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in text):
        raise ValueError(
            f"{name}: expected an address such as https://host:8088, with scheme and host; got "
            f"scheme {parts.scheme!r} and host {host!r}"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{name}: expected scheme, host, port and path only; leave out the rest")
    if parts.scheme == "http" and not (allow_http or is_local(host)):
        raise ValueError(
            f"{name}: expected https, since credentials go with every request; got http to {host}. "
            "Pass allow_http=True where the network in between is trusted"
        )
    return text.rstrip("/")


class Poster:
    """Sends bodies to one address.

    Args:
        ca_bundle: PEM file of the authorities to trust instead of the system's.
        timeout: Seconds to wait for connection and answer.

    Raises:
        ValueError: The bundle cannot be read.
    """

    def __init__(self, ca_bundle: str | None = None, timeout: float = TIMEOUT_SECONDS) -> None:
        try:
            context = ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                f"ca_bundle: expected a readable PEM file with certificates; {error}"
            ) from None
        self._timeout = timeout
        secure = urllib.request.HTTPSHandler(context=context)
        self._opener = urllib.request.build_opener(secure, NoRedirects())
        # What is meant for this machine must not go to a proxy, least of all in clear.
        self._local = urllib.request.build_opener(
            secure, NoRedirects(), urllib.request.ProxyHandler({})
        )

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send once; never raises for what the network or the receiver does."""
        request = urllib.request.Request(url, data=body, headers=dict(headers), method="POST")  # noqa: S310 - the scheme was checked
        opener = self._local if is_local(urlsplit(url).hostname or "") else self._opener
        try:
            with opener.open(request, timeout=self._timeout) as answer:
                return reply_of(answer.status, answer.headers, answer.read(ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                try:
                    text = error.read(ANSWER_BYTES)
                except (OSError, http.client.HTTPException):
                    text = b""
                return reply_of(error.code, error.headers, text)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            return Reply(None, problem=told(f"{type(reason).__name__}: {reason}", 300))


def reply_of(status: int, headers: Any, body: bytes) -> Reply:
    """Read the parts of an answer that matter."""
    now = http_date(headers.get("Date"))
    after = headers.get("Retry-After")
    wait: float | None = None
    if after is not None and re.fullmatch(r"[0-9]{1,9}", after.strip()):
        wait = float(after)
    elif after is not None and now is not None:
        until = http_date(after)
        wait = None if until is None else until - now
    if wait is not None:
        wait = min(max(0.0, wait), LONGEST_WISH)
    return Reply(status, body.decode("utf-8", "replace"), wait, now)


def http_date(text: str | None) -> float | None:
    """Seconds since 1970 of an HTTP date; None where it is none."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (TypeError, ValueError, OverflowError):
        return None


def told(body: str, most: int = 200) -> str:
    """The start of an answer on one line, without what a terminal would obey."""
    words = " ".join(body.split())
    return "".join(c if c.isprintable() else "?" for c in words)[:most]


def masked(outcome: Outcome, secret: str) -> Outcome:
    """The outcome without a secret that the receiver repeated."""
    return outcome._replace(reason=outcome.reason.replace(secret, "***"))


def is_page(reply: Reply) -> bool:
    """Whether a web page came back: the answer of a portal or proxy, whatever its status."""
    return reply.body.lstrip()[:1] == "<"


def refused(reply: Reply, name: str, remedy: str) -> Outcome:
    """What to do about an answer that is neither success nor about the events themselves.

    Args:
        reply: The answer.
        name: Who answered.
        remedy: What to check where the credentials were refused.
    """
    said = told(reply.body)
    if reply.status is None:
        return Outcome("retry", f"{name} was not reached: {reply.problem}")
    if reply.status in (401, 403):
        return Outcome(
            "retry",
            f"{name} refused the credentials ({reply.status} {said}): {remedy}",
            max(reply.retry_after or 0, SLOW_RETRY_SECONDS),
        )
    if reply.status in BUSY or reply.status > 504:
        return Outcome("retry", f"{name} answered {reply.status} {said}", reply.retry_after)
    if reply.status == 413:
        return Outcome("rejected", f"{name} answered 413: too large")
    return Outcome(
        "retry",
        f"{name} answered {reply.status} {said}: expected 200; is the address right?",
        max(reply.retry_after or 0, SLOW_RETRY_SECONDS),
    )


def shortened(value: object) -> object:
    """A text of at most ``LONGEST_FIELD`` bytes; what is cut is said."""
    if not isinstance(value, str):
        return value
    data = value.encode("utf-8", "replace")
    if len(data) <= LONGEST_FIELD:
        return value
    mark = f" [{len(data) - LONGEST_FIELD + 64} bytes cut]"
    return data[: LONGEST_FIELD - 64].decode("utf-8", "ignore") + mark
