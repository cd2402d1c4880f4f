"""Request ids, logs, headers, documentation pages, readiness and figures."""

import base64
import hashlib
import io
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from api_talk import BASE, Talk, talk
from sqlalchemy import event

from modelward.api.headers import docs_policy
from modelward.api.logs import JsonFormatter, TextFormatter, log_config, set_up_logs
from modelward.jobs import RequestContext, acting, mask

KEY, ORG = "mwk-" + "k" * 43, "mwo-" + "o" * 32


@pytest.mark.parametrize("given", ["abc-123", "A.b_c", "x" * 64])
def test_request_ids_of_callers_are_kept(tmp_path: Path, given: str) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client(headers={"X-Request-Id": given}) as client:
            for path in ("/health", BASE + "/job_detail", "/nothing", "/jobs/x"):
                answer = await client.get(path)
                assert answer.headers["x-request-id"] == given
                if answer.headers["content-type"] == "application/json" and path != "/health":
                    assert answer.json()["request_id"] == given

    talk(tmp_path, conversation)


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "<script>", "a\tb", "é".encode("latin-1")])
def test_other_request_ids_are_replaced(tmp_path: Path, given: str) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client() as client:
            answer = await client.get("/health", headers={"X-Request-Id": given})
            assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])

    talk(tmp_path, conversation)


def test_every_answer_has_safe_headers(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("inner secret")

        async with talking.client() as client:
            paths = ["/health", "/readyz", "/openapi.json", "/nothing", "/jobs/x", "/", "/docs",
                     "/static/modelward.css", BASE + "/job_detail"]  # fmt: skip
            answers = [await client.get(path) for path in paths]
            talking.app.state.service.readiness.checks = broken
            answers.append(await client.get("/readyz"))
            assert answers[-1].status_code == 500 and "inner" not in answers[-1].text
        for answer in answers:
            headers = answer.headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-frame-options"] == "DENY"
            assert headers["x-request-id"]
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["cache-control"] == "no-store"
            assert ("strict-transport-security" in headers) is expected

    expected = False
    talk(tmp_path / "a", conversation)
    expected = True
    talk(tmp_path / "b", conversation, public_url="https://ward.example")


def test_head_is_get_without_the_body(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        exchange, detail = BASE + "/get_aws_api_key", BASE + "/job_detail?job_id=x"
        async with talking.client(headers=talking.headers) as client:
            for path in ("/health", "/healthz", "/readyz", "/", "/docs", "/redoc", "/openapi.json",
                         "/static/modelward.css", "/jobs/x", "/nothing", detail):  # fmt: skip
                got, head = await client.get(path), await client.head(path)
                assert head.content == b"" and got.status_code == head.status_code, path
                for answer in (got, head):
                    del answer.headers["x-request-id"]
                assert dict(got.headers) == dict(head.headers), path
            assert (await client.head(detail, headers={"x-api-key": "no"})).status_code == 403
            before = (await client.get(BASE + "/keys")).json()
            assert (await client.head(exchange)).status_code == 405
            assert (await client.head(BASE + "/model_registration/upload")).status_code == 405
            assert (await client.get(BASE + "/keys")).json() == before

    talk(tmp_path, conversation)


@pytest.mark.parametrize("path", ["/{}", "/health?{}", BASE + "/job_detail?job_id={}"])
def test_the_request_line_counts_as_header(tmp_path: Path, path: str) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client() as client:
            empty = len(f"GET {path.format('')} HTTP/1.1\r\n") + sum(
                len(name) + len(value) + 4
                for name, value in client.build_request("GET", "/").headers.raw
            )
            fits = await client.get(path.format("a" * (2048 - empty)))
            assert fits.status_code in (200, 403, 404)
            answer = await client.get(path.format("a" * (2049 - empty)))
            assert answer.status_code == 431
            assert answer.json()["message"].startswith("header: expected at most 2048 bytes")
            assert "2049" in answer.json()["message"] and answer.headers["connection"] == "close"
            assert answer.headers["x-content-type-options"] == "nosniff"

    talk(tmp_path, conversation, header_max_bytes=2048)


def directives(policy: str) -> dict[str, list[str]]:
    return {part.split()[0]: part.split()[1:] for part in policy.split("; ")}


def test_documentation_works_under_its_own_policy(tmp_path: Path) -> None:
    """Every script and style of the real pages is one that the policy allows."""

    async def conversation(talking: Talk) -> None:
        async with talking.client() as client:
            for path in ("/docs", "/redoc"):
                page = await client.get(path)
                policy = directives(page.headers["content-security-policy"])
                assert "'unsafe-inline'" not in policy["script-src"]
                assert "'unsafe-eval'" not in str(policy)
                scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page.text, re.DOTALL)
                assert scripts
                for attributes, text in scripts:
                    if source := re.search(r'src="([^"]+)"', attributes):
                        assert source[1].startswith("/")
                        asset = await client.get(source[1])
                        assert asset.status_code == 200 and len(asset.content) > 100_000
                        assert "javascript" in asset.headers["content-type"]
                    else:
                        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
                        assert f"'sha256-{digest}'" in policy["script-src"]
                for address in re.findall(r'(?:href|src|spec-url)="([^"]+)"', page.text):
                    assert (await client.get(address)).status_code == 200
                assert not re.search(r"\son\w+=", page.text)
            assert policy["worker-src"] == ["blob:"]

    talk(tmp_path, conversation)


def test_only_the_scripts_of_the_page_itself_are_named() -> None:
    page = "<script>a()</script><script src='x'></script><p>"
    digest = base64.b64encode(hashlib.sha256(b"a()").digest()).decode()
    assert directives(docs_policy(page))["script-src"] == ["'self'", f"'sha256-{digest}'"]


def record(message: str, *arguments: object, name: str = "modelward.x") -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "f.py", 1, message, arguments, None)


@pytest.mark.parametrize(
    "formatter", [JsonFormatter(), TextFormatter("%(levelprefix)s %(message)s")]
)
def test_log_lines_carry_the_request_and_no_secret(formatter: logging.Formatter) -> None:
    try:
        raise ValueError(f"bad key {KEY} for x-api-key: hunter2secret")
    except ValueError:
        error = sys.exc_info()
    entry = record(
        "seen %s at %s", f"/a?token=abc.def&org_id={ORG}", f"Authorization: Bearer {KEY}"
    )
    entry.exc_info = error
    with acting(RequestContext(request_id="req-7", address="192.0.2.1", actor="key-1")):
        line = formatter.format(entry)
    assert "req-7" in line
    for secret in (KEY, ORG, "abc.def", "hunter2secret"):
        assert secret not in line
    assert "ValueError" in line and "/a?token=***" in line


def test_json_lines_are_one_object_per_line() -> None:
    line = JsonFormatter().format(record("two\nlines %s", "\x1b[31m"))
    assert "\n" not in line and "\x1b" not in line
    assert json.loads(line)["message"] == "two\nlines \x1b[31m"
    access = record(
        '%s - "%s %s HTTP/%s" %d', "192.0.2.1:1", "GET", "/jobs/x?token=abc", "1.1", 200,
        name="uvicorn.access",
    )  # fmt: skip
    found = json.loads(JsonFormatter().format(access))
    assert (found["method"], found["path"], found["status"]) == ("GET", "/jobs/x", 200)
    assert "abc" not in str(found)
    assert log_config("info", "json")["formatters"]["access"]["()"] is JsonFormatter


def test_logs_are_set_up_without_closing_those_of_others() -> None:
    """Some handlers close the stream that they wrote to, which may be the program's own."""
    closed = []

    class Other(logging.StreamHandler):  # type: ignore[type-arg]
        def close(self) -> None:
            closed.append(self)
            super().close()

    other = Other(io.StringIO())
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", "modelward")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one.handlers[:], one.level, one.propagate) for one in loggers]
    try:
        set_up_logs("info", "json")
        assert isinstance(logging.getLogger("modelward").handlers[0].formatter, JsonFormatter)
        set_up_logs("warning", "text")
        assert [len(one.handlers) for one in loggers] == [1, 0, 1, 1]
        assert logging.getLogger("modelward").level == logging.WARNING
        assert not logging.getLogger("uvicorn.access").propagate
        assert not closed
    finally:
        for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
            one.handlers[:], one.propagate = handlers, propagate
            one.setLevel(level)
        other.close()


@pytest.mark.parametrize(
    "text",
    [
        "x-api-key: %", "X-Api-Key=%", "{'x-api-key': '%'}", '"org_id": "%"', "Org-Id: %",
        "authorization: %", "Authorization: Bearer %", "Authorization: Splunk %", "cookie: a=%",
        "(b'authorization', b'%')", "token=%&x=1", "password = %", "('x-api-key', '%')",
    ],
)  # fmt: skip
def test_headers_and_parameters_are_masked(text: str) -> None:
    shown = mask(text.replace("%", "s3cr3t-value"))
    assert "s3cr3t-value" not in shown and "***" in shown


def test_our_own_messages_stay_readable() -> None:
    for text in (
        "x-api-key: expected a key of this service; got an unknown one. "
        "`modelward key create` makes one",
        "token: this link has expired; ask for a new one",
        "Org-Id: expected an organisation id in the header",
    ):
        assert mask(text) == text


def test_readiness_names_what_is_wrong(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client() as client:
            answer = await client.get("/readyz")
            assert answer.status_code == 503
            checks = answer.json()["checks"]
            assert checks["database"] == checks["dispatcher"] == "ok"
            assert "bytes free" in checks["disk"]
            assert (await client.get("/healthz")).status_code == 200

    talk(tmp_path / "full", conversation, disk_free_floor_bytes=2**62)

    async def stopped(talking: Talk) -> None:
        async with talking.client() as client:
            assert (await client.get("/readyz")).json()["status"] == "ok"
            service = talking.app.state.service
            service.readiness._last = None
            service._dispatcher.stop()
            answer = await client.get("/readyz")
            assert answer.json()["checks"]["dispatcher"] == "jobs are not being started"

    talk(tmp_path / "stopped", stopped, disk_free_floor_bytes=0)


def test_readiness_notices_a_database_that_cannot_be_written(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        engine = talking.app.state.service._database._engine

        def read_only(connection: Any, _record: object) -> None:
            connection.execute("PRAGMA query_only = ON")

        event.listen(engine, "connect", read_only)
        engine.dispose()
        async with talking.client() as client:
            checks = (await client.get("/readyz")).json()["checks"]
        assert checks["database"].startswith("not writable")

    talk(tmp_path, conversation, disk_free_floor_bytes=0)


def value(text: str, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} ([0-9.e+-]+)$", text, re.MULTILINE)
    assert found, f"{line} is not in {text}"
    return float(found[1])


def test_figures_count_by_route_and_name_no_tenant(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client("127.0.0.1", headers=talking.headers) as client:
            for number in range(3):
                await client.get(f"{BASE}/job_detail?job_id=job-{number}")
            await client.get("/some/unknown/path")
            await client.request("BREW", "/docs")
            await client.get(BASE + "/get_aws_api_key", headers={"Org-Id": "mwo-wrong"})
            await client.get(BASE + "/get_aws_api_key")
            text = (await client.get("/metrics")).text
        where = f'route="{BASE}/job_detail"'
        assert value(text, f'modelward_requests_total{{method="GET",{where},status="404"}}') == 3
        assert value(text, f"modelward_request_seconds_count{{{where}}}") == 3
        assert (
            value(text, 'modelward_requests_total{method="GET",route="unmatched",status="404"}')
            == 1
        )
        assert 'method="other"' in text and "BREW" not in text
        assert value(text, 'modelward_key_exchanges_refused_total{reason="organisation"}') == 1
        assert value(text, "modelward_queue_length") == 0
        assert value(text, 'modelward_jobs{state="running"}') == 0
        for secret in ("job-1", "unknown/path", *talking.headers.values()):
            assert secret not in text

    talk(tmp_path, conversation)
