"""Guarded requests: addresses, names that change, redirects, and limits."""

import http.server
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from modelward.domain import InvalidInputError
from modelward.netguard import (
    GuardedClient,
    OutboundError,
    OutboundLimitError,
    OutboundPolicy,
    OutboundRefusedError,
    forbidden_reason,
)
from modelward.settings import Settings, load_settings

LOOPBACK = ipaddress.ip_address("127.0.0.1")
PUBLIC = ipaddress.ip_address("93.184.215.14")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "loopback"), ("127.9.9.9", "loopback"), ("::1", "loopback"),
        ("0.0.0.0", "unspecified"), ("::", "unspecified"), ("10.0.0.1", "private"),
        ("172.16.0.1", "private"), ("192.168.1.1", "private"), ("100.64.0.1", "not global"),
        ("169.254.1.1", "link-local"), ("169.254.169.254", "metadata"), ("fe80::1", "link-local"),
        ("fd00:ec2::254", "metadata"), ("fc00::1", "private"), ("fec0::1", "site-local"),
        ("224.0.0.1", "multicast"), ("ff02::1", "multicast"), ("255.255.255.255", "private"),
        ("240.0.0.1", "private"), ("168.63.129.16", "Azure"), ("100.100.100.200", "metadata"),
        ("192.0.0.192", "metadata"), ("192.0.0.9", "reserved"), ("192.0.2.1", "private"),
        ("::ffff:127.0.0.1", "loopback"), ("::ffff:169.254.169.254", "metadata"),
        ("::ffff:a00:1", "private"), ("::127.0.0.1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "metadata"), ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b:1::1", "private|reserved"), ("2002:7f00:1::", "loopback"),
        ("2002:a9fe:a9fe::1", "metadata"), ("2001:0:7f00:1::", "private|Teredo"),
        ("2001:db8::1", "private"),
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str, reason: str) -> None:
    found = forbidden_reason(ipaddress.ip_address(address))
    assert found and any(word in found for word in reason.split("|")), found


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses_pass(address: str) -> None:
    assert forbidden_reason(ipaddress.ip_address(address)) == ""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the path says."""

    def do_GET(self) -> None:
        server = self.server
        server.seen.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        server.keys.append(self.headers["x-api-key"])  # type: ignore[attr-defined]
        name, _, rest = self.path[1:].partition("/")
        if name == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
            return
        if name == "loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        self.send_response(200)
        if name == "zipped":
            self.send_header("Content-Encoding", "gzip")
        if name == "announced":
            self.send_header("Content-Length", "1000000")
        self.end_headers()
        if name == "long":
            for _ in range(100):
                self.wfile.write(b"x" * 1000)
        if name == "drip":
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                if server.stopped.wait(0.05):  # type: ignore[attr-defined]
                    return
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.seen = []  # type: ignore[attr-defined]
    server.keys = []  # type: ignore[attr-defined]
    server.stopped = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join(10)
        server.server_close()


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with web() as found:
        yield found


def names(**table: str) -> Callable[[str, int], list[ipaddress.IPv4Address]]:
    def resolve(host: str, port: int) -> list[ipaddress.IPv4Address]:
        found = table.get(host.replace(".example", ""), "")
        if not found:
            raise socket.gaierror(f"unknown: {host}")
        return [ipaddress.ip_address(text) for text in found.split()]

    return resolve


def client(**options: object) -> GuardedClient:
    allow = options.pop("allow", ("127.0.0.1",))
    resolver = options.pop("resolver", None)
    policy = OutboundPolicy(allow=allow, **({"timeout_seconds": 10} | options))
    return GuardedClient(policy, **({"resolver": resolver} if resolver else {}))


def url(server: http.server.ThreadingHTTPServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.server_address[1]}{path}"


def test_local_addresses_are_refused_unless_allowed(
    server: http.server.ThreadingHTTPServer,
) -> None:
    port = server.server_address[1]
    with client(allow=()) as guarded:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.0.0.1."):
            with pytest.raises(OutboundRefusedError, match="expected"):
                guarded.get(f"http://{host}:{port}/")
    assert server.seen == []
    for allow in (("127.0.0.1",), ("127.0.0.0/8",), ("127.0.0.1/32", "other.example")):
        with client(allow=allow) as guarded:
            assert guarded.get(f"http://127.0.0.1:{port}/").text == "hello"


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.1", "127.0.1", "017700000001"],
)
def test_addresses_in_disguise_are_refused(
    server: http.server.ThreadingHTTPServer, host: str
) -> None:
    # the real resolver would take most of them for 127.0.0.1, which is even allowed here
    with client() as guarded, pytest.raises(OutboundRefusedError, match="expected"):
        guarded.get(f"http://{host}:{server.server_address[1]}/")
    assert server.seen == []


@pytest.mark.parametrize(
    "address",
    ["ftp://a.example/", "file:///etc/passwd", "http://user:pw@a.example/", "gopher://a.example"],
)
def test_other_schemes_and_credentials_are_refused(address: str) -> None:
    with (
        client(resolver=names(a="127.0.0.1")) as guarded,
        pytest.raises(OutboundRefusedError, match="expected"),
    ):
        guarded.get(address)


def test_one_bad_address_spoils_a_name(server: http.server.ThreadingHTTPServer) -> None:
    for found in ("10.0.0.7", f"{PUBLIC} 10.0.0.7", f"{PUBLIC} 169.254.169.254"):
        with (
            client(allow=(), resolver=names(a=found)) as guarded,
            pytest.raises(OutboundRefusedError, match=r"10\.0\.0\.7|169\.254\.169\.254"),
        ):
            guarded.get("http://a.example/")


def test_the_checked_address_is_the_one_connected_to(
    server: http.server.ThreadingHTTPServer,
) -> None:
    """A name that resolves to another address the second time is only asked once."""
    asked = []

    def rebinding(host: str, port: int) -> list[ipaddress.IPv4Address]:
        asked.append(host)
        return [LOOPBACK if len(asked) == 1 else ipaddress.ip_address("10.0.0.1")]

    with client(resolver=rebinding) as guarded:
        answer = guarded.get(url(server, "/", "model.example"))
        assert answer.text == "hello"
        assert asked == ["model.example"]
        assert server.seen[0][1] == f"model.example:{server.server_address[1]}"
        # the next request asks again: nothing is kept between requests
        with pytest.raises(OutboundRefusedError, match=r"10\.0\.0\.1 \(private\)"):
            guarded.get(url(server, "/", "model.example"))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://inner.example/",
        "http://2130706433/",
        "file:///etc/passwd",
        "//10.0.0.1/",
    ],
)
def test_redirects_pass_the_same_check(
    server: http.server.ThreadingHTTPServer, target: str
) -> None:
    resolver = names(**{"127.0.0.1": "127.0.0.1", "inner": "192.168.0.1",
                        "169.254.169.254": "169.254.169.254", "10.0.0.1": "10.0.0.1"})  # fmt: skip
    with client(resolver=resolver) as guarded:
        with pytest.raises(OutboundRefusedError, match="expected"):
            guarded.get(url(server, f"/to/{target}"))
        assert guarded.get(url(server, "/to//fine")).text == "hello"
        with pytest.raises(OutboundLimitError, match="at most 5 redirects"):
            guarded.get(url(server, "/loop"))


def test_keys_do_not_follow_a_redirect_to_another_server(
    server: http.server.ThreadingHTTPServer,
) -> None:
    with web() as other, client() as guarded:
        for goal in ("/fine", url(other, "/fine"), url(other, f"/to/{url(server, '/back')}")):
            guarded.get(url(server, f"/to/{goal}"), headers={"x-api-key": "secret"})
        assert other.keys == [None, None]
    assert server.keys == ["secret", "secret", "secret", "secret", "secret"]


def test_size_is_limited(server: http.server.ThreadingHTTPServer) -> None:
    with client(max_bytes=50_000) as guarded:
        for path in ("/long", "/announced"):
            with pytest.raises(OutboundLimitError, match="at most 50000 bytes"):
                guarded.get(url(server, path))
        with pytest.raises(OutboundLimitError, match="uncompressed"):
            guarded.get(url(server, "/zipped"))


def test_time_is_limited_over_the_whole_answer(server: http.server.ThreadingHTTPServer) -> None:
    # each byte comes quickly; all of them together take five seconds
    with client(timeout_seconds=0.5) as guarded, pytest.raises(OutboundLimitError, match="time"):
        guarded.get(url(server, "/drip"))


def test_headers_that_trickle_are_limited_too() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection:
                for sign in b"HTTP/1.1 200 OK\r\n" + b"x" * 1000:
                    try:
                        connection.sendall(bytes([sign]))
                    except OSError:
                        return
                    if stop.wait(0.05):
                        return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            with (
                client(timeout_seconds=0.5) as guarded,
                pytest.raises(OutboundLimitError, match="expected"),
            ):
                guarded.get(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        finally:
            stop.set()
            thread.join(10)


def test_proxies_of_the_environment_are_ignored(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with client() as guarded:
        assert guarded.get(url(server, "/")).text == "hello"


def test_unknown_hosts_and_closed_ports_are_errors_of_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with client(resolver=names(a="127.0.0.1")) as guarded:
        for address in ("http://unknown.example/", f"http://a.example:{port}/"):
            with pytest.raises(OutboundError, match=r"expected|refused"):
                guarded.get(address)


def test_answers_can_be_streamed(server: http.server.ThreadingHTTPServer) -> None:
    with client() as guarded, guarded.stream("GET", url(server, "/long")) as answer:
        assert sum(len(part) for part in answer.iter_bytes()) == 100_005
    assert isinstance(guarded, httpx.Client)


def test_setting_is_read_at_start(tmp_path: Path) -> None:
    assert Settings(outbound_allow=("10.0.0.0/8", "models.example")).outbound_allow
    config = tmp_path / "s.toml"
    config.write_text('outbound_allow = ["10.0.0.0/99"]\n')
    with pytest.raises(InvalidInputError, match="networks such as"):
        load_settings(config)
