"""Requests that no client library would send: the server answers soon, and never with a 500."""

import contextlib
import json
import os
import re
import select
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_service import BASE, Live, run_live

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
SLOWEST_SECONDS = 10
METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT",
           b"get", b"PROPFIND", b"A" * 300, b"G@T"]  # fmt: skip
CALLS = [
    b"POST /model_registration/upload", b"PUT /upload/{model}/data?token={token}",
    b"POST /upload/{model}/data?token={token}", b"PUT /upload/{model}/data?token=forged",
    b"PUT /upload/{model}/data?token={token}x", b"PUT /upload/{model}/label?token={token}",
    b"PUT /upload/{model}/%64ata?token=x&token={token}", b"POST /upload/{model}/data?token=%FF.a.b",
    b"PUT /upload/../../etc/passwd?token={token}", b"PUT /upload/{model}%2f..%2fx/data?token=x",
    b"POST /model_analyse/{model}", b"POST /model_analyse/%00", b"DELETE /jobs/%00",
    b"GET /job_status_detailed?job_id=%00%ff%fe", b"GET /job_detail?job_id={model}",
    b"GET /job_status_detailed?job_id=a&job_id=b&job_id[]=c", b"GET /get_aws_api_key",
    b"GET /get_report?job_id=x&report_type=%F0%9F", b"GET /keys", b"POST /keys",
    b"POST /supplychain",
    b"GET /get_report?job_id=x&report_type=Vulnerability&file_format=%C2%B2",
    b"GET /get_report?job_id=x&report_type=Vulnerability&file_format=1e999",
    b"DELETE /keys/..%2f..",
    b"POST /keys/%E2%80%AE/rotate", b"DELETE /jobs/%0d%0aX-Evil:%201", b"DELETE /models/{model}%20",
    b"GET /%2e%2e/%2e%2e", b"POST /generate_model_id?x=%", b"GET /job_detail?" + b"a=b&" * 2000,
]  # fmt: skip
ROOTS = [BASE.encode()] * 12 + [b"/prod" + BASE.encode(), BASE.encode() + b"//", b"/%61pi/ais/v1.5"]
PAGES = [b"/", b"/docs", b"/openapi.json", b"/static/../pages.py", b"/static/%2e%2e/pages.py",
         b"/static/..%5cpages.py", b"/jobs/x?token=%00", b"/jobs/x/files/Defense?token=a.b.c",
         b"/jobs/<script>", b"*", b"http://other.example/docs", b"//other.example/docs", b"",
         b"/metrics", b"/readyz", b"/" + b"a/" * 4000, b"/x" * 9000, b"/\xff\xfe", b"/docs?%",
         b"/static-offline-docs/%2e%2e/%2e%2e/etc/passwd", b"/docs#x", b"/;/.;/"]  # fmt: skip
HEADERS = [
    b"Content-Type: multipart/form-data; boundary=\xff\xfe", b"Content-Type: multipart/form-data",
    b"Content-Type: multipart/form-data; boundary*0=a; boundary*1=b", b"Content-Type: ;;;=\"",
    b"Content-Type: multipart/form-data; boundary=\"" + b"b" * 300 + b'"', b"Content-Type:",
    b"Content-Type: application/json; charset=utf-7", b"Content-Length: \xb2",
    b"Content-Length: -1",
    b"Content-Length: 5, 5", b"Content-Length: +3", b"Content-Length: " + b"9" * 400,
    b"Content-Length: 3000000000", b"Transfer-Encoding: chunked", b"Transfer-Encoding: x, chunked",
    b"Transfer-Encoding: gzip", b"Expect: 100-continue", b"Range: bytes=0-,-1,5-2", b"X-Api-Key:",
    b"Content-Encoding: gzip", b"Host: a\tb", b"Host: evil.example", b"X-Request-Id: \xe2\x80\xae",
    b"X-Forwarded-For: 1.2.3.4, ::1, junk", b"Forwarded: for=\"[::", b"Org-Id: \xf0\x9f\x98\x80",
    b"Org-Id: mwo-" + b"x" * 5000, b"Authorization: Bearer \xff", b"Upgrade: websocket",
    b"Connection: upgrade", b"Connection: close, keep-alive", b"X-Long: " + b"y" * 20_000,
    b"Idempotency-Key: " + b"k" * 300, b"Idempotency-Key: \xff", b"Cookie: " + b"a=b; " * 500,
    b"Accept: " + b"*/*;q=0.1," * 300, b"No-Colon", b" folded: x", b"Bad\0Name: x", b"N\xe4me: x",
    *[b"X-Many-%d: 1" % n for n in range(3)],
]  # fmt: skip
PART = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
BODIES = [
    b"", b"{}", b"[]", b'{"task_type": "IC", "analysis_type": "MEA"}', b"[" * 5000, b"\xff\xfe",
    b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": "\\ud800"}', b"PK\x03\x04",
    b"PK\x05\x06" + bytes(18), PART + b"x\r\n--b--\r\n", PART * 2, b"--\xff\xff\r\n\r\n",
    b"--b\r\n" + b"x" * 3000, b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"\0" * 3000,
    b'{"label": "a\\u0000\\u202e", "role": "admin", "expires_in_seconds": 1e308}',
    b'{"grace_seconds": -1}', b'{"label": "x", "role": ["admin"]}',
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, dict[bytes, bytes]]]:
    data = tmp_path_factory.mktemp("hostile") / "data"
    with run_live(data, failures_per_second=1e6, key_exchange_per_second=1e6) as live:
        registered = live.register()
        token = registered["urls"]["data_upload_url"].partition("token=")[2]
        yield live, {b"{model}": registered["model_id"].encode(), b"{token}": token.encode()}
        assert live.get("/keys").status_code == 200
        text = live.log.read_text()
        assert "Traceback" not in text, text[text.index("Traceback") :][:3000]


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, list[bytes], bytes]:
    """Request line, headers besides the credentials, body."""
    method, _, path = draw(st.sampled_from(CALLS)).partition(b" ")
    path = draw(st.sampled_from(ROOTS)) + path
    if draw(st.integers(0, 4)) == 2:
        method, path = b"GET", draw(st.sampled_from(PAGES))
    if draw(st.integers(0, 4)) == 2:
        method = draw(st.sampled_from(METHODS))
    if draw(st.integers(0, 9)) == 5:
        path += re.sub(rb"\s", b"_", draw(st.binary(max_size=6)))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 30 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""]))
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=2))
    return b"%s %s %s" % (method, path, version), headers, draw(st.sampled_from(BODIES))


def exchange(live: Live, request: bytes, *, whole: bool = True) -> bytes:
    """Everything that the server sends until it closes.

    A request that is not whole is left hanging only for a moment: the server rightly waits.
    """
    where = urlsplit(live.url)
    assert where.hostname and where.port
    with socket.create_connection((where.hostname, where.port), timeout=SLOWEST_SECONDS) as wire:
        with contextlib.suppress(ConnectionError):
            wire.sendall(request)
        answer, give_up = b"", time.monotonic() + SLOWEST_SECONDS
        with contextlib.suppress(ConnectionError):
            while True:
                # Nothing more comes from here: neither at first nor after "100 Continue".
                if not whole and not select.select([wire], [], [], 0.2)[0]:
                    with contextlib.suppress(OSError):
                        wire.shutdown(socket.SHUT_WR)
                part = wire.recv(65_536)  # its timeout is a hang
                if not part:
                    break
                answer += part
                assert time.monotonic() < give_up, answer[:500]
        return answer


def judge(answer: bytes) -> int | None:
    """The status; None where the server hung up without a word."""
    answer = re.sub(rb"^HTTP/1\.1 100 [^\r]*\r\n\r\n", b"", answer)
    if not answer:
        return None
    found = re.match(rb"HTTP/1\.1 (\d{3})[^\r\n]*\r\n", answer)
    assert found, answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(found[1])
    assert status < 500, answer[:1000]
    if length := re.search(rb"content-length: (\d+)", head.lower()):
        # what follows answers what came behind the request, where the connection stays open
        body = body[: int(length[1])]
    if status >= 400 and b"application/json" in head.lower() and body:
        error = json.loads(body)
        assert error["message"] == error["detail"] and error["request_id"], error
    return status


def test_body_that_is_promised_and_never_sent(server: tuple[Live, dict[bytes, bytes]]) -> None:
    live, _ = server
    lines = [b"POST %s/model_registration/upload HTTP/1.1" % BASE.encode(), b"Host: localhost"]
    lines += [f"{key}: {value}".encode() for key, value in live.headers.items()]
    lines += [b"Expect: 100-continue", b"Content-Length: 1000000", b"Connection: close"]
    answer = exchange(live, b"\r\n".join(lines) + b"\r\n\r\n", whole=False)
    assert judge(answer) in (None, 400)


@settings(
    max_examples=300 * FACTOR,
    deadline=None,
    derandomize=FACTOR == 1,
    suppress_health_check=list(HealthCheck),
)
@given(
    request=requests(),
    known=st.sampled_from([True, True, True, False]),
    lied=st.sampled_from([None, None, 0, 1, 10**6]),
)
def test_raw_requests(
    server: tuple[Live, dict[bytes, bytes]],
    request: tuple[bytes, list[bytes], bytes],
    known: bool,
    lied: int | None,
) -> None:
    live, real = server
    line, headers, body = request
    for name, value in real.items():
        line = line.replace(name, value)
    lines = [line, b"Connection: close", *headers]
    names = b"\n".join(headers).lower()
    if b"host:" not in names:
        lines.append(b"Host: localhost")
    if b"content-length" not in names and b"transfer-encoding" not in names:
        lines.append(b"Content-Length: %d" % (len(body) if lied is None else lied))
    if known:
        lines += [f"{key}: {value}".encode() for key, value in live.headers.items()]
    framed = any(
        word in names for word in (b"content-length", b"transfer-", b"expect", b"connection")
    )
    whole = not framed and (lied is None or lied <= len(body))
    status = judge(exchange(live, b"\r\n".join(lines) + b"\r\n\r\n" + body, whole=whole))
    assert status or not whole or len(names) > 16_000


def upload(server: tuple[Live, dict[bytes, bytes]], body: bytes, kind: bytes) -> bytes:
    live, real = server
    path = b"%s/upload/%s/data?token=%s" % (BASE.encode(), real[b"{model}"], real[b"{token}"])
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\n" % (
        path,
        kind,
    )
    return exchange(live, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'--b0\r\nContent-Disposition: form-data; name="' + b"a" * 8_000_000, 413, b"besides"),
        (b'--b0\r\nContent-Disposition: form-data; name="file"\r\n' + b"X-A: b\r\n" * 300_000, 413,
         b"besides the file"),
        (b'--b0\r\nContent-Disposition: form-data; name="other"\r\n\r\n' + b"x" * 5_000_000, 413,
         b"besides the file"),
        (b'--b0\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n' * 30_000, 400,
         b"got several"),
    ],
    ids=["endless header", "many headers", "a part that nobody wants", "many files"],
)  # fmt: skip
def test_forms_that_would_fill_memory_or_time(
    server: tuple[Live, dict[bytes, bytes]], body: bytes, status: int, message: bytes
) -> None:
    answer = upload(server, body, b"multipart/form-data; boundary=b0")
    assert judge(answer) == status
    assert message in answer


@pytest.mark.parametrize(
    "kind",
    [b"multipart/form-data; boundary=\xe9\xff", b'multipart/form-data; boundary="', b"\xff",
     b"multipart/form-data; boundary=" + b"=" * 300, b"multipart/form-data" + b";" * 5000],
    ids=["not ascii", "open quote", "no type", "long", "many parts"],
)  # fmt: skip
def test_content_types_out_of_shape(server: tuple[Live, dict[bytes, bytes]], kind: bytes) -> None:
    assert judge(upload(server, b"x" * 600, kind)) == 400
