"""Clients that keep the service waiting or fill it up, over real sockets with short limits."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from live_service import BASE, Live, make_zip, run_live

HELD = 6


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with run_live(
        tmp_path_factory.mktemp("short") / "data",
        header_timeout_seconds=0.6,
        header_max_bytes=4096,
        body_window_seconds=0.6,
        body_min_bytes_per_second=10_000,
        connections_per_address=HELD,
        log_format="json",
    ) as live:
        yield live


def connect(live: Live) -> socket.socket:
    place = urlsplit(live.url)
    return socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the service closes the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def parse(raw: bytes) -> tuple[int, dict[str, str], dict[str, str]]:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


def trickle(connection: socket.socket, part: bytes, pause: float = 0.1) -> bytes:
    """Send a part again and again until the service has had enough; what it says."""
    give_up = time.monotonic() + 15
    connection.settimeout(pause)
    while time.monotonic() < give_up:
        try:
            connection.sendall(part)
            if received := connection.recv(65536):
                connection.settimeout(20)
                return received + read_all(connection)
            return b""
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return b""
    pytest.fail("the service waits for ever")


def check_error(raw: bytes, status: int, word: str) -> None:
    code, headers, body = parse(raw)
    assert (code, headers["connection"]) == (status, "close")
    assert word in body["message"] and body["request_id"] == headers["x-request-id"]
    assert headers["x-content-type-options"] == "nosniff"


def test_header_that_trickles_in(short: Live) -> None:
    with connect(short) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        check_error(trickle(connection, b"X-More: 1\r\n"), 408, "header")


def test_connection_that_says_nothing(short: Live) -> None:
    with connect(short) as connection:
        check_error(read_all(connection), 408, "header")


def test_second_request_of_a_connection_is_watched_too(short: Live) -> None:
    with connect(short) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert b" 408 " in trickle(connection, b"X-More: 1\r\n")


@pytest.mark.parametrize("padding", [3000, 8000, 200_000])
def test_size_of_the_header_is_limited(short: Live, padding: int) -> None:
    with connect(short) as connection:
        request = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Padding: %s\r\n\r\n"
        connection.sendall(request % (b"x" * padding))
        if padding == 3000:
            assert read_all(connection).startswith(b"HTTP/1.1 200")
        else:
            # a client that goes on sending may lose the answer to a reset
            try:
                check_error(read_all(connection), 431, "at most 4096 bytes")
            except ConnectionResetError:
                assert padding == 200_000


@pytest.mark.parametrize("start", [b"/", b"/health?", b"http://x/"])
@pytest.mark.parametrize("length", [3000, 4200, 70_000])
def test_size_of_the_request_line_is_limited(short: Live, start: bytes, length: int) -> None:
    with connect(short) as connection:
        line = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall(line % (start + b"a" * length))
        if length == 3000:
            assert parse(read_all(connection))[0] in (200, 404)
        else:
            # a client that goes on sending may lose the answer to a reset
            try:
                check_error(read_all(connection), 431, "at most 4096 bytes")
            except ConnectionResetError:
                assert length == 70_000


def test_json_body_that_trickles_in(short: Live) -> None:
    with connect(short) as connection:
        head = (
            f"POST {BASE}/model_registration/upload HTTP/1.1\r\nHost: x\r\n"
            f"Org-Id: {short.org_id}\r\nx-api-key: {short.api_key}\r\n"
            "Content-Length: 100000\r\n\r\n{"
        )
        connection.sendall(head.encode())
        check_error(trickle(connection, b" "), 408, "10000 bytes per second")


def test_upload_that_trickles_in_after_a_quick_start(short: Live) -> None:
    """A megabyte sent at once buys no right to stand still for 100 seconds."""
    address = urlsplit(short.register()["urls"]["data_upload_url"])
    content = make_zip({"a.bin": b"\x00" * 2_000_000})
    with connect(short) as connection:
        head = (
            f"PUT {address.path}?{address.query} HTTP/1.1\r\nHost: x\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        connection.sendall(head.encode() + content[:1_000_000])
        check_error(trickle(connection, b"x"), 408, "body")
    # The answer leaves a moment before the file does.
    give_up = time.monotonic() + 10
    while list((short.data / "incoming").iterdir()):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    # a slow but steady client gets through
    with connect(short) as connection:
        connection.sendall(head.encode())
        for start in range(0, len(content), 400_000):
            connection.sendall(content[start : start + 400_000])
            time.sleep(0.15)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_answer_that_nobody_reads(short: Live) -> None:
    """The service lets go of a client that asks for much and takes nothing."""
    request = b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(short) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request * 8)
        give_up = time.monotonic() + 15
        while "unread" not in short.http.get(short.url + "/metrics").text:
            assert time.monotonic() < give_up
            time.sleep(0.1)
    assert short.http.get(short.url + "/health").status_code == 200


def test_one_address_cannot_take_all_connections(short: Live) -> None:
    short.http.close()
    with ExitStack() as stack:
        held = [stack.enter_context(connect(short)) for _ in range(HELD)]
        for connection in held:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in connection.recv(65536)
        further = stack.enter_context(connect(short))
        check_error(read_all(further), 503, "holds too many")
        held[0].close()
        give_up = time.monotonic() + 15
        while True:
            again = stack.enter_context(connect(short))
            again.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                if b"200 OK" in again.recv(65536):
                    break
            except ConnectionResetError:
                pass
            again.close()
            assert time.monotonic() < give_up
            time.sleep(0.05)


def test_log_is_json_with_request_ids_and_without_secrets(short: Live) -> None:
    lines = [json.loads(line) for line in short.log.read_text().splitlines()]
    requests = [line for line in lines if line["logger"] == "uvicorn.access"]
    assert len(requests) >= 5
    assert all(line["request_id"] and line["route"] for line in requests)
    assert {"method", "path", "status", "address", "time", "level"} <= set(requests[0])
    text = short.log.read_text()
    for secret in (short.org_id, short.api_key):
        assert secret not in text
    assert "token=mw" not in text and "eyJ" not in text


def test_what_is_said_before_the_service_listens_is_json_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    (data / "holiday.jpg").touch()
    with run_live(data, log_format="json") as live:
        lines = [json.loads(line) for line in live.log.read_text().splitlines()]
    (warning,) = [line for line in lines if line["level"] == "warning"]
    assert warning["logger"] == "modelward.storage.private"
    assert "others may read it" in warning["message"]
