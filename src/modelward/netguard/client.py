"""An httpx client whose connections go to checked addresses only.

The check sits where a connection is made: the name is resolved once, every address is judged,
and the connection goes to an address that was judged, so that a name that resolves differently
the second time (rebinding) gains nothing. Redirects make connections too and pass the same check.
"""

import ipaddress
import socket
import ssl
import time
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from modelward.netguard.addresses import Address, OutboundPolicy
from modelward.netguard.errors import OutboundError, OutboundLimitError, OutboundRefusedError

__all__ = ["GuardedClient", "Resolver"]

Resolver = Callable[[str, int], list[Address]]
_DEADLINE = "modelward.deadline"
_ORIGIN = "modelward.origin"
_ANYWHERE = {
    "accept", "accept-encoding", "accept-language", "connection", "content-length",
    "content-type", "host", "transfer-encoding", "user-agent",
}  # fmt: skip
"""Headers that a redirect may carry to another server. Others may hold keys, whatever their name;
httpx keeps back Authorization only."""


def _resolve(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(item[4][0]).split("%")[0]) for item in found]


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise OutboundLimitError("request: expected to be done by now; the time for it is over")
    return left


class _Stream(httpcore.NetworkStream):
    """A connection whose every step ends at the deadline of the request."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        secured = self._inner.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return _Stream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, policy: OutboundPolicy, resolver: Resolver, deadline: float) -> None:
        self._policy = policy
        self._resolver = resolver
        self._deadline = deadline
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._checked(host, port)
        problem: Exception | None = None
        for address in addresses:
            try:
                stream = self._plain.connect_tcp(
                    str(address), port, _left(self._deadline), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                problem = error
                continue
            return _Stream(stream, self._deadline)
        raise problem or httpcore.ConnectError(f"{host}: no address")

    def _checked(self, host: str, port: int) -> list[Address]:
        self._policy.check_host(host)
        try:
            addresses = list(dict.fromkeys(self._resolver(host, port)))
        except OSError as error:
            raise OutboundError(f"{host}: expected a host that is known; {error}") from error
        # One bad address spoils the name: whoever mixes them wants the wrong one to be chosen.
        for address in addresses:
            self._policy.check_address(host, address)
        return addresses

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        raise OutboundRefusedError("expected a request over the network; got a local socket")

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, _left(self._deadline)))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise OutboundLimitError(
            f"request: expected an answer in time; {type(error).__name__}"
        ) from error
    except (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
        ssl.SSLError,
    ) as error:
        raise OutboundError(f"request: expected an answer; {error}") from error


class _Body(httpx.SyncByteStream):
    """Counts an answer as it comes in."""

    def __init__(
        self, response: httpcore.Response, pool: httpcore.ConnectionPool, limit: int
    ) -> None:
        self._response = response
        self._pool = pool
        self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        with _translated():
            for part in typing.cast(Iterable[bytes], self._response.stream):
                seen += len(part)
                if seen > self._limit:
                    raise OutboundLimitError(
                        f"answer: expected at most {self._limit} bytes; got more"
                    )
                yield part

    def close(self) -> None:
        self._response.close()
        self._pool.close()


class _Transport(httpx.BaseTransport):
    """Each request gets a connection of its own: none is shared between names or deadlines."""

    def __init__(self, policy: OutboundPolicy, resolver: Resolver, verify: ssl.SSLContext) -> None:
        self._policy = policy
        self._resolver = resolver
        self._verify = verify

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _check_url(request.url)
        backend = _Backend(self._policy, self._resolver, request.extensions[_DEADLINE])
        headers = request.headers.raw
        if _origin(request.url) != request.extensions[_ORIGIN]:
            headers = [item for item in headers if item[0].decode("latin-1").lower() in _ANYWHERE]
        pool = httpcore.ConnectionPool(
            ssl_context=self._verify,
            network_backend=backend,
            max_connections=1,
            max_keepalive_connections=0,
        )
        try:
            with _translated():
                response = pool.handle_request(
                    httpcore.Request(
                        method=request.method,
                        url=httpcore.URL(
                            scheme=request.url.raw_scheme,
                            host=request.url.raw_host,
                            port=request.url.port,
                            target=request.url.raw_path,
                        ),
                        headers=headers,
                        content=request.stream,
                    )
                )
            self._check_head(response)
        except BaseException:
            pool.close()
            raise
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response, pool, self._policy.max_bytes),
        )

    def _check_head(self, response: httpcore.Response) -> None:
        headers = httpx.Headers(response.headers)
        # A few compressed bytes could become any number of real ones; none were asked for.
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            response.close()
            raise OutboundLimitError("answer: expected it uncompressed, as was asked for")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._policy.max_bytes:
            response.close()
            raise OutboundLimitError(
                f"answer: expected at most {self._policy.max_bytes} bytes; {length} are announced"
            )


def _check_url(url: httpx.URL) -> None:
    if url.scheme not in ("http", "https"):
        raise OutboundRefusedError(f"address: expected http or https; got {url.scheme[:20]!r}")
    if url.userinfo:
        raise OutboundRefusedError("address: expected one without user name and password in it")
    if not url.host:
        raise OutboundRefusedError("address: expected one with a host")


class GuardedClient(httpx.Client):
    """``httpx.Client`` under an :class:`OutboundPolicy`.

    Proxies and certificates named by the environment are ignored: they would move the check to
    another machine. Redirects are followed up to the policy's number; to another server they carry
    no header that could hold a key.

    Raises (from every request method):
        OutboundRefusedError: An address that is not allowed, here or behind a redirect.
        OutboundLimitError: Too many redirects, too large, too slow.
        OutboundError: Unknown host, no connection, broken answer.
    """

    def __init__(
        self,
        policy: OutboundPolicy | None = None,
        *,
        resolver: Resolver = _resolve,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy or OutboundPolicy()
        context = verify or httpx.create_ssl_context(trust_env=False)
        super().__init__(
            transport=_Transport(self._policy, resolver, context),
            trust_env=False,
            follow_redirects=True,
            max_redirects=self._policy.max_redirects,
            timeout=self._policy.timeout_seconds,
            headers={"Accept-Encoding": "identity", "User-Agent": "modelward"},
        )

    def build_request(self, *arguments: Any, **options: Any) -> httpx.Request:
        """As ``httpx.Client``; an address that cannot be read is a refused one."""
        try:
            return super().build_request(*arguments, **options)
        except httpx.InvalidURL as error:
            raise OutboundRefusedError(f"address: expected http or https; {error}") from error

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request; its deadline covers redirects and the whole answer."""
        # Redirected requests take the extensions of the first one along.
        request.extensions = {
            **request.extensions,
            _DEADLINE: time.monotonic() + self._policy.timeout_seconds,
            _ORIGIN: _origin(request.url),
        }
        try:
            return super().send(request, **options)
        except httpx.TooManyRedirects as error:
            raise OutboundLimitError(
                f"request: expected at most {self._policy.max_redirects} redirects; got more"
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise OutboundRefusedError(f"address: expected http or https; {error}") from error
        except httpx.HTTPError as error:
            raise OutboundError(f"request: expected an answer; {error}") from error
