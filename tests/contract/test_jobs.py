"""From the analysis request to the downloads, with a pipeline that attacks nothing."""

import io
import json
import os
import re
import signal
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from live_service import PAYLOAD, Live, make_archives, make_zip, run_live
from noop_worker import report_of

STAGES = (
    "ModelExploration_Status",
    "SanityCheck_Status",
    "QueryGenerator_Status",
    "VunerabilityEngine_Status",
    "EvasionAnalysis_Status",
    "DefenseReport_Status",
    "SupplyChainStatus",
)
SENTENCE = "Defense generation is not triggered"


def states(status: dict[str, Any]) -> list[str]:
    return [status[name] for name in STAGES]


def worker_of(live: Live, job: str = ".*") -> int:
    found = re.search(rf"job {job} runs as process (\d+)", live.log.read_text())
    assert found
    return int(found[1])


def wait_for_end(process: int) -> None:
    with pytest.raises(ProcessLookupError, match="No such process"):
        for _ in range(200):
            os.kill(process, 0)
            time.sleep(0.05)


def stages_run(data: Path, job: str) -> list[str]:
    """Stages that any worker of a job began, in order."""
    return (data / f"{job}.trace").read_text().split()


def members(content: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return set(archive.namelist())


def test_answer_to_the_analysis_request(live: Live) -> None:
    registered = live.register()
    live.upload_all(registered, make_archives())
    # a lone surrogate is legal JSON, but has no UTF-8 form
    payload = PAYLOAD | {"surprise": {"kept": ["\U0001f600", "\ud800"]}, "job_id": "mine"}
    answer = live.http.post(
        f"{live.api}/model_analyse/{registered['model_id']}",
        content=json.dumps(payload),
        headers=live.headers,
    )
    job = answer.json()
    assert re.fullmatch(r"[A-Za-z0-9_-]+", job["job_id"]) and job["job_id"] != "mine"
    assert job["dashboard_link"] == job["monitor_link"]
    assert job["monitor_link"].startswith(live.url + "/jobs/")
    assert job["api_version"] == "1.5"
    assert job["surprise"] == {"kept": ["\U0001f600", "\ud800"]}
    assert {key: job[key] for key in PAYLOAD} == PAYLOAD
    assert job["parameters"]["input_shape"] == [8, 8, 1]


def test_defense_made(live: Live) -> None:
    job = live.start_job()["job_id"]
    status = live.wait(job)
    assert states(status) == [
        "completed", "passed", "completed", "completed", "na", "completed", "na"
    ]  # fmt: skip
    assert status["VulnerabiltyScore"] == "0.73"
    assert status["OriginalModelAccuracy"] == "0.99"
    assert status["CurrentStatus"] != SENTENCE
    for report in ("Vulnerability", "vulnerability", "DEFENSE"):
        name = report.capitalize()
        packed = live.get("/get_report", job_id=job, report_type=report, file_format=0)
        assert packed.status_code == 200
        assert packed.headers["content-type"] == "application/zip"
        assert members(packed.content) == {f"{name}.{k}" for k in ("txt", "pdf", "json", "xml")}
        for number, kind in ((1, "txt"), (2, "pdf"), (3, "json"), (4, "xml")):
            answer = live.get("/get_report", job_id=job, report_type=report, file_format=number)
            assert answer.content == report_of(name.lower(), kind)
            assert kind in answer.headers["content-disposition"]
    expected = {
        "Defense_artifact": {"predict.py", "defense_model.h5"},
        "attack_samples": {f"{n}.png" for n in range(25)},
        "Surrogate_model": {"surrogate_model.h5"},
    }
    for report, names in expected.items():
        for number in (0, 3):
            answer = live.get("/get_report", job_id=job, report_type=report, file_format=number)
            assert members(answer.content) == names


def test_sizes_of_files_are_told_without_sending_them(live: Live) -> None:
    started = live.start_job()
    live.wait(started["job_id"])
    report = live.api + f"/get_report?job_id={started['job_id']}&report_type="
    files = [report + "Vulnerability", report + "Defense&file_format=2", report + "Attack_samples"]
    for address in (started["monitor_link"], *files):
        # the same connection each time: a body left in it would be taken for the next answer
        head = live.http.head(address, headers=live.headers)
        got = live.http.get(address, headers=live.headers)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(got.content) > 0
        for name in ("content-type", "content-disposition", "content-security-policy"):
            assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize("threshold", ["1", 1, 1.0, "0.734"])
def test_defense_not_made(live: Live, threshold: object) -> None:
    job = live.start_job(vulnerability_threshold=threshold)["job_id"]
    status = live.wait(job)
    assert states(status) == ["completed", "passed", "completed", "completed", "na", "na", "na"]
    assert status["CurrentStatus"] == SENTENCE
    for report in ("Defense", "defense_artifact"):
        answer = live.get("/get_report", job_id=job, report_type=report, file_format=0)
        assert answer.status_code == 404
        assert "threshold" in answer.json()["message"]
    answer = live.get("/get_report", job_id=job, report_type="Vulnerability", file_format=3)
    assert answer.json() == {"report": "vulnerability"}


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("refuse", "expected a picture; got noise"),
        ("bug", "ZeroDivisionError"),
        ("exit", "exit code 7"),
        ("kill", "SIGKILL"),
    ],
)
def test_failure_marks_the_stage_and_all_later_ones(live: Live, behaviour: str, words: str) -> None:
    job = live.start_job(behaviour=behaviour)["job_id"]
    status = live.wait(job)
    assert states(status) == ["completed", "passed", "failed", "failed", "na", "failed", "na"]
    assert words in status["CurrentStatus"]
    # a process that died may do better the next time; a job that is refused will not
    assert status["Attempts"] == (3 if behaviour in ("exit", "kill") else 1)
    assert status["VulnerabiltyScore"] == "na"
    answer = live.get("/get_report", job_id=job, report_type="Vulnerability")
    assert answer.status_code == 404
    assert words in answer.json()["message"]
    assert not (live.data / "work" / job).exists()
    assert live.wait(live.start_job()["job_id"])["JobState"] == "succeeded"


def test_late_failure_keeps_the_vulnerability_report(live: Live) -> None:
    job = live.start_job(behaviour="fail-late")["job_id"]
    status = live.wait(job)
    assert states(status) == ["completed", "passed", "completed", "completed", "na", "failed", "na"]
    assert live.get("/get_report", job_id=job, report_type="Vulnerability").status_code == 200
    assert live.get("/get_report", job_id=job, report_type="Defense").status_code == 404


def test_running_and_waiting_jobs(live: Live) -> None:
    (live.data / "release").unlink(missing_ok=True)
    first = live.start_job(behaviour="block")["job_id"]
    second = live.start_job()["job_id"]
    running = live.wait(first, lambda status: status["CurrentStatus"].startswith("Held"))
    assert states(running) == ["completed", "passed", "inprogress", "na", "na", "na", "na"]
    assert running["VulnerabiltyScore"] == "na"
    assert 0.4 <= running["Progress"] <= 0.6
    assert states(live.status(second)) == ["na"] * 7
    answer = live.get("/get_report", job_id=first, report_type="Vulnerability")
    assert answer.status_code == 409
    assert "not ready" in answer.json()["message"]
    (live.data / "release").touch()
    assert live.wait(first)["JobState"] == "succeeded"
    assert live.wait(second)["JobState"] == "succeeded"


def test_job_detail(live: Live) -> None:
    job = live.start_job(vulnerability_threshold="0.5", number_of_attack_queries="300")["job_id"]
    detail = live.get("/job_detail", job_id=job).json()
    assert detail["AttackType"] == "blackbox"
    assert detail["NumerofAttackQueries"] == 300
    assert detail["VulnerabiltyThreshold"] == 0.5
    assert detail["ModelInformation"]["number_of_classes"] == 3
    assert detail["CreatedTimestamp"].startswith("20")


def test_report_parameters_are_checked(live: Live) -> None:
    job = live.start_job()["job_id"]
    assert live.get("/get_report", job_id=job).status_code == 400
    assert live.get("/get_report", job_id=job, report_type="Poem").status_code == 412
    wrong = live.get("/get_report", job_id=job, report_type="Defense", file_format=9)
    assert wrong.status_code == 412
    assert "0 (zip)" in wrong.json()["message"]


def test_missing_uploads_are_named(live: Live, archives: dict[str, bytes]) -> None:
    registered = live.register()
    live.upload_all(registered, {"data": archives["data"]})
    answer = live.analyse(registered["model_id"])
    assert answer.status_code == 400
    assert "missing: label, model" in answer.json()["message"]


def test_identical_archives_in_two_slots_do_not_crash(live: Live) -> None:
    registered = live.register()
    live.upload_all(registered, dict.fromkeys(("data", "label", "model"), make_archives()["data"]))
    assert live.analyse(registered["model_id"]).status_code == 400


def test_gate_refuses_and_creates_nothing(live: Live, archives: dict[str, bytes]) -> None:
    registered = live.register()
    live.upload_all(registered, archives)
    model = registered["model_id"]
    assert live.analyse(model, number_of_attack_queries=-1).status_code == 412
    assert live.analyse(model, use_model_api="yes").status_code == 412
    assert live.analyse(model, input_dimensions="(9, 9, 1)").status_code in (400, 412)
    assert live.analyse(model, number_of_classes=2).status_code in (400, 412)
    text = live.http.post(
        f"{live.api}/model_analyse/{model}", content=b"no json", headers=live.headers
    )
    assert text.status_code == 400
    # nothing was locked: other files may still come
    label = make_zip({"l.csv": b"image,label\n0.png,1\n"})
    assert live.http.put(registered["urls"]["label_upload_url"], content=label).status_code == 200


def test_a_defence_that_cannot_be_made_is_refused_before_the_attack(
    live: Live, archives: dict[str, bytes]
) -> None:
    registered = live.register()
    few = "".join(f"{n}.png,{n % 3}\n" for n in range(9))
    label = make_zip({"label.csv": f"image,label\n{few}".encode()})
    live.upload_all(registered, archives | {"label": label})
    model = registered["model_id"]
    answer = live.analyse(model)
    assert answer.status_code == 400
    assert "labelled images: expected at least 10" in answer.json()["message"]
    assert "vulnerability_threshold 1" in answer.json()["message"]
    # without a defence there is nothing against it
    assert live.analyse(model, vulnerability_threshold=1).status_code == 200
    other = live.register()
    live.upload_all(other, archives)
    answer = live.analyse(other["model_id"], number_of_attack_queries=9)
    assert answer.status_code == 400
    assert "number_of_attack_queries: expected at least 10" in answer.json()["message"]


def test_a_killed_server_leaves_no_worker_and_its_jobs_go_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with run_live(data) as live:
        running = live.start_job(behaviour="block")["job_id"]
        waiting = live.start_job()["job_id"]
        live.wait(running, lambda status: status["CurrentStatus"].startswith("Held"))
        headers = live.headers
        worker = worker_of(live)
        # no chance to tidy up
        live.process.send_signal(signal.SIGKILL)
        live.process.wait()
        wait_for_end(worker)
    (data / "release").touch()
    with run_live(data) as live:
        live.org_id, live.api_key = headers["Org-Id"], headers["x-api-key"]
        status = live.wait(running)
        assert (status["JobState"], status["Attempts"]) == ("succeeded", 2)
        assert live.wait(waiting)["JobState"] == "succeeded"
        # taken over from the first attempt, not run again
        assert stages_run(data, running) == [
            "explore",
            "check",
            "query",
            "query",
            "score",
            "defend",
        ]


def test_stopping_the_server_sends_its_jobs_back_into_the_queue(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with run_live(data, shutdown_grace_seconds=0.5) as live:
        job = live.start_job(behaviour="block")["job_id"]
        live.wait(job, lambda status: status["CurrentStatus"].startswith("Held"))
        worker = worker_of(live)
        headers = live.headers
    wait_for_end(worker)
    (data / "release").touch()
    with run_live(data) as live:
        live.org_id, live.api_key = headers["Org-Id"], headers["x-api-key"]
        status = live.wait(job)
        # an attempt that was asked to go home does not count
        assert (status["JobState"], status["Attempts"]) == ("succeeded", 1)
