"""Cancel, repeated requests, limits, bounds and deletion, over HTTP with real job processes."""

import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from live_service import PAYLOAD, Live, make_archives, make_zip, run_live
from test_jobs import STAGES, stages_run, states, wait_for_end, worker_of

from modelward.client import Client
from modelward.domain import ConflictError, NotFoundError

_MIB = 2**20


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with tight limits."""
    with run_live(
        tmp_path_factory.mktemp("strict") / "data",
        job_max_memory_bytes=400 * _MIB,
        job_max_seconds=10,
        queue_max_jobs=3,
        queue_max_jobs_per_organisation=2,
    ) as live:
        yield live


def _delete(live: Live, path: str, **headers: str) -> httpx.Response:
    return live.http.delete(live.api + path, headers=live.headers | headers)


def _hold(live: Live) -> str:
    """A job that runs until the file ``release`` appears."""
    (live.data / "release").unlink(missing_ok=True)
    job = str(live.start_job(behaviour="block")["job_id"])
    live.wait(job, lambda status: status["CurrentStatus"].startswith("Held"))
    return job


def test_cancel(live: Live) -> None:
    running = _hold(live)
    waiting = live.start_job()["job_id"]
    worker = int(worker_of(live, running))
    for job in (waiting, running):
        for _ in range(2):
            answer = _delete(live, f"/jobs/{job}")
            assert answer.status_code == 200
            status = answer.json()
            assert status["JobState"] == "cancelled"
            assert "cancelled" in status["CurrentStatus"]
    assert states(live.status(waiting)) == ["failed"] * 4 + ["na", "failed", "na"]
    assert states(live.status(running))[:3] == ["completed", "passed", "failed"]
    wait_for_end(worker)
    for job in (waiting, running):
        answer = live.get("/get_report", job_id=job, report_type="Vulnerability")
        assert answer.status_code == 404
        assert f"job {job} was cancelled on request" in answer.json()["message"]
        assert "failed" not in answer.json()["message"]
    # the place is free again
    done = live.start_job()["job_id"]
    assert live.wait(done)["JobState"] == "succeeded"
    answer = _delete(live, f"/jobs/{done}")
    assert answer.status_code == 409
    assert "it has ended" in answer.json()["message"]
    assert _delete(live, "/jobs/job-unknown").status_code == 404
    foreign = live.new_organisation("foreign")
    assert live.http.delete(f"{live.api}/jobs/{done}", headers=foreign).status_code == 404
    assert live.http.delete(f"{live.api}/jobs/{done}").status_code == 403


def test_sdk_cancels_and_deletes(live: Live) -> None:
    running = _hold(live)
    model = live.get("/job_detail", job_id=running).json()["ModelInformation"]["model_id"]
    with Client(live.url, live.org_id, live.api_key) as client:
        with pytest.raises(ConflictError, match="did not end yet"):
            client.delete_model(model)
        status = client.cancel(running)
        assert status.failed and status.finished
        removed = client.delete_model(model)
        assert removed["jobs"] == 1 and removed["files"] >= 3
        with pytest.raises(NotFoundError, match="model_id"):
            client.delete_model(model)
        with pytest.raises(NotFoundError, match="job_id"):
            client.status(running)
    for folder in (f"inputs/{model}", f"artifacts/{running}"):
        assert not (live.data / "blobs" / folder).exists()
    assert live.wait(live.start_job()["job_id"])["JobState"] == "succeeded"


def test_same_idempotency_key_gives_the_same_job(live: Live) -> None:
    registered = live.register()
    live.upload_all(registered, make_archives())
    url = f"{live.api}/model_analyse/{registered['model_id']}"
    headers = live.headers | {"Idempotency-Key": "once"}
    answers: list[httpx.Response] = []
    start = threading.Barrier(4)

    def ask() -> None:
        start.wait(30)
        answers.append(httpx.post(url, json=PAYLOAD, headers=headers, timeout=60))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status_code for answer in answers] == [200] * 4
    (job,) = {answer.json()["job_id"] for answer in answers}
    live.wait(job)
    again = live.http.post(url, json=PAYLOAD, headers=headers).json()
    assert again["job_id"] == job and again["monitor_link"].startswith(live.url + "/jobs/")
    other = live.http.post(url, json=PAYLOAD | {"seed": 5}, headers=headers)
    assert other.status_code == 412
    assert "other parameters" in other.json()["message"]
    assert live.http.post(url, json=PAYLOAD, headers=live.headers).json()["job_id"] != job
    bad = live.http.post(url, json=PAYLOAD, headers=headers | {"Idempotency-Key": "x" * 300})
    assert bad.status_code == 400


def test_an_accepted_job_is_in_the_database_before_the_answer(live: Live) -> None:
    job = live.start_job()["job_id"]
    with closing(sqlite3.connect(live.data / "modelward.db")) as other:
        assert other.execute("SELECT 1 FROM jobs WHERE id = ?", (job,)).fetchone()
    live.wait(job)


def test_memory_above_the_limit_ends_a_job_for_good(strict: Live) -> None:
    status = strict.wait(strict.start_job(behaviour="hog")["job_id"])
    assert (status["JobState"], status["Attempts"]) == ("failed", 1)
    assert "400 MiB" in status["CurrentStatus"]
    assert "job_max_memory_bytes" in status["CurrentStatus"]
    assert states(status) == ["completed", "passed", "failed", "failed", "na", "failed", "na"]


def test_time_above_the_limit_ends_a_job_for_good(strict: Live) -> None:
    status = strict.wait(_hold(strict))
    assert (status["JobState"], status["Attempts"]) == ("failed", 1)
    assert "job_max_seconds" in status["CurrentStatus"]


def test_full_queue_is_answered_with_429(strict: Live) -> None:
    (strict.data / "release").unlink(missing_ok=True)
    models = []
    for _ in range(4):
        registered = strict.register()
        strict.upload_all(registered, make_archives())
        models.append(registered["model_id"])
    held = strict.analyse(models[0], behaviour="block").json()["job_id"]
    strict.wait(held, lambda status: status["JobState"] == "running")
    assert [strict.analyse(model).status_code for model in models[1:]] == [200, 200, 429]
    refused = strict.analyse(models[3])
    assert int(refused.headers["retry-after"]) > 0
    assert "queue_max_jobs_per_organisation" in refused.json()["message"]
    (strict.data / "release").touch()
    give_up = time.monotonic() + 60
    while strict.analyse(models[3]).status_code == 429:
        assert time.monotonic() < give_up
        time.sleep(0.2)


def test_stopping_lets_a_job_reach_its_next_note(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with run_live(data, checkpoint_seconds=0, shutdown_grace_seconds=20) as live:
        job = live.start_job(behaviour="steps")["job_id"]
        live.wait(job, lambda status: status["CurrentStatus"] == "Step 3")
        headers = live.headers
        live.process.send_signal(signal.SIGTERM)
        live.process.wait(30)
        assert "Application shutdown complete" in live.log.read_text()
    (data / "release").touch()
    with run_live(data) as live:
        live.org_id, live.api_key = headers["Org-Id"], headers["x-api-key"]
        status = live.wait(job)
    assert (status["JobState"], status["Attempts"]) == ("succeeded", 1)
    steps = [line for line in stages_run(data, job) if line.startswith("step")]
    # asked to stop after its third step, it kept one more
    assert steps == [f"step{number}" for number in range(1, 7)]


def test_server_under_a_limit_on_file_sizes_recovers(tmp_path: Path) -> None:
    """A real limit of the operating system on a running server, as a full disk would be."""
    with run_live(tmp_path / "data") as live:
        finished = live.start_job()["job_id"]
        live.wait(finished)
        registered = live.register()
        url = registered["urls"]["data_upload_url"]
        archive = make_zip({"x.bin": bytes(range(256)) * 4000})
        before = resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, (100_000, before[1]))
        answer = live.http.put(url, content=archive)
        assert answer.status_code == 507
        assert answer.json()["request_id"]
        # what is finished is still served
        report = live.get("/get_report", job_id=finished, report_type="Vulnerability")
        assert report.status_code == 200
        resource.prlimit(live.process.pid, resource.RLIMIT_FSIZE, before)
        assert live.http.put(url, content=archive).status_code == 200
        assert live.wait(live.start_job()["job_id"])["JobState"] == "succeeded"
        assert len(states(live.status(finished))) == len(STAGES)
