"""Upload links under a clock that the test moves, without a server process."""

import asyncio
import io
import sys
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from job_world import JobWorld

from modelward.api import create_app
from modelward.domain import (
    AnalysisType,
    ConflictError,
    InvalidInputError,
    TaskType,
    UploadDialect,
    sample_payload,
)
from modelward.jobs import AssessmentService, Role
from modelward.jobs.retention import collect_garbage
from modelward.settings import Settings

PAYLOAD = sample_payload(TaskType.IMAGE_CLASSIFICATION, AnalysisType.EXTRACTION, UploadDialect.PUT)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def talk(app: FastAPI, conversation: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Start the app without a network, let the client talk to it, stop it."""

    async def run() -> None:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
        ):
            await conversation(client)

    asyncio.run(run())


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.png", b"\x89PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("after", "status"), [(599, 200), (601, 403)])
def test_upload_url_lives_ten_minutes(tmp_path: Path, after: int, status: int) -> None:
    clock = Clock()
    app = create_app(
        Settings(data=tmp_path), clock=clock, worker_command=[sys.executable, "-c", "0"]
    )

    async def conversation(client: httpx.AsyncClient) -> None:
        made = app.state.service.tenants.create("a")
        headers = {"Org-Id": made.organisation_id, "x-api-key": made.api_key}
        answer = await client.post(
            "/api/ais/v1.5/model_registration/upload",
            json={"task_type": "IC", "analysis_type": "MEA"},
            headers=headers,
        )
        url = answer.json()["data"]["urls"]["data_upload_url"]
        clock.now += after
        assert (await client.put(url, content=archive())).status_code == status

    talk(app, conversation)


def test_unexpected_errors_are_json_and_tell_no_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(Settings(data=tmp_path), worker_command=[sys.executable, "-c", "0"])

    def explode(*_: object) -> None:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(app.state.service.tenants, "organisation", explode)

    async def conversation(client: httpx.AsyncClient) -> None:
        answer = await client.get("/api/ais/v1.5/get_aws_api_key", headers={"Org-Id": "x"})
        assert answer.status_code == 500
        body = answer.json()
        assert body["request_id"] and "RuntimeError" in body["message"]
        assert "inner secret" not in answer.text

    talk(app, conversation)


def test_openapi_describes_every_call_once(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path))
    paths = app.openapi()["paths"]
    names = [call["operationId"] for path in paths.values() for call in path.values()]
    assert len(names) == len(set(names))
    upload = paths["/api/ais/v1.5/upload/{model_id}/{slot}"]
    assert set(upload) == {"put", "post"}
    assert "422" not in str(paths)


def test_files_that_are_gone_are_told_before_the_answer_begins(tmp_path: Path) -> None:
    """Deleted, or too old, between the look into the database and the first byte."""
    world = JobWorld(tmp_path)
    world.model = world.new_model(slots=("data", "label", "model"))
    world.add("job-1")
    world.finish("job-1")
    app = create_app(Settings(data=tmp_path), worker_command=[sys.executable, "-c", "0"])

    async def conversation(client: httpx.AsyncClient) -> None:
        service = app.state.service
        key = service.keys.create(world.organisation, label="k", role=Role.SUBMITTER).secret
        where = {"job_id": "job-1", "report_type": "Vulnerability", "file_format": "3"}
        page = urlsplit(service.links.monitor("job-1"))
        file = f"{page.path}/files/Vulnerability?{page.query}&file_format=3"
        calls = (("/api/ais/v1.5/get_report", where), (file, None))
        for path, query in calls:
            answer = await client.get(path, params=query, headers={"x-api-key": key})
            assert (answer.status_code, answer.text) == (200, "job-1 Vulnerability.json")
        world.blobs.delete("artifacts/job-1/Vulnerability.json")
        for path, query in calls:
            answer = await client.get(path, params=query, headers={"x-api-key": key})
            assert answer.status_code == 404 and "expected a stored file" in answer.text

    talk(app, conversation)


def test_a_model_whose_files_are_too_old_says_so(tmp_path: Path) -> None:
    """Its upload links would not help: they are closed since the first analysis."""
    world = JobWorld(tmp_path)
    world.model = world.new_model(slots=("data", "label", "model"))
    world.add("job-1")
    world.finish("job-1")
    collect_garbage(world.database, world.blobs, tmp_path, older_than=1, now=1e9)
    service = AssessmentService(Settings(data=tmp_path))
    with pytest.raises(ConflictError, match=r"because of their age; register it again"):
        service.analyse(world.organisation, world.model, PAYLOAD)
    world.model = world.new_model()
    with pytest.raises(InvalidInputError, match="Send each to its upload URL"):
        service.analyse(world.organisation, world.model, PAYLOAD)
