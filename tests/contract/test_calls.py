"""Basics of the wire contract: headers, keys, bodies, error codes."""

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_service import BASE, PAYLOAD, Live, make_archives, run_live
from typer.testing import CliRunner

from modelward.cli import app

IDS = {"task_type": "image_classification", "analysis_type": "extraction"}


def check_error(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["message"] and body["detail"] and body["request_id"]
    assert body["request_id"] == answer.headers["x-request-id"]
    for word in words:
        assert word in body["message"]


def register(live: Live, **options: Any) -> httpx.Response:
    return live.http.post(
        live.api + "/model_registration/upload", **{"headers": live.headers, "json": IDS} | options
    )


@pytest.mark.parametrize("name", ["Org-Id", "org-id", "org_id", "ORG_ID"])
def test_every_header_spelling_is_read(live: Live, name: str) -> None:
    headers = {name: live.org_id, "x-api-key": live.api_key}
    assert register(live, headers=headers).status_code == 200
    minted = live.get("/get_aws_api_key", headers={name: live.org_id})
    assert set(minted.json()) == {"x_api_key"}
    renewed = {name: live.org_id, "x-api-key": minted.json()["x_api_key"]}
    assert register(live, headers=renewed).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/prod", "/a/b"])
def test_api_answers_below_any_prefix(live: Live, prefix: str) -> None:
    address = f"{live.url}{prefix}{BASE}/model_registration/upload"
    assert live.http.post(address, json=IDS, headers=live.headers).status_code == 200


@pytest.mark.parametrize(
    "content_type", ["application/zip", "text/plain", "multipart/form-data", None, "nonsense"]
)
def test_json_is_parsed_by_content(live: Live, content_type: str | None) -> None:
    headers = live.headers | ({"content-type": content_type} if content_type else {})
    content = b'{"task_type": "IC", "analysis_type": "MEA"}'
    assert register(live, headers=headers, json=None, content=content).status_code == 200


@pytest.mark.parametrize("task", ["IC", "ic", "image_classification", "Image_Classification"])
@pytest.mark.parametrize("analysis", ["MEA", "mea", "extraction", "Extraction"])
def test_spellings_choose_the_dialect(live: Live, task: str, analysis: str) -> None:
    data = live.register(task, analysis)
    assert uuid.UUID(data["model_id"]).version == 4
    assert set(data["urls"]) == {"data_upload_url", "label_upload_url", "model_upload_url"}
    for target in data["urls"].values():
        if task.lower() == "ic":
            assert target.startswith(live.api)
        else:
            assert target["url"].startswith(live.api)
            assert set(target["fields"]) == {"key"}
    assert data["model_analysis_payload"]["number_of_attack_queries"] == 20_000


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"task_type": "IC"}', b"[" * 100_000,
     b'{"task_type": NaN, "analysis_type": "MEA"}', b'{"a": 1e999}', b"1" * 5000],
)  # fmt: skip
def test_malformed_bodies_are_400(live: Live, body: bytes) -> None:
    check_error(register(live, json=None, content=body), 400, "expected")


def test_reads_under_a_wrong_content_type(live: Live) -> None:
    headers = live.headers | {"content-type": "application/zip"}
    check_error(live.get("/job_detail", headers=headers, job_id="x"), 404, "job_id")
    assert "x_api_key" in live.get("/get_aws_api_key", headers=headers).json()


def test_oversized_json_is_413(live: Live) -> None:
    body = b'{"task_type": "' + b"a" * 2**21 + b'"}'
    check_error(register(live, json=None, content=body), 413, "at most")


@pytest.mark.parametrize(
    ("task", "analysis", "word"),
    [
        ("sculpture", "MEA", "image_classification"),
        ("IC", "theft", "extraction"),
        (7, "MEA", "task_type"),
        ("tabular_classification", "evasion", "not supported yet"),
        ("IC", "poisoning", "image_classification + extraction"),
    ],
)
def test_values_that_are_not_allowed_are_412(
    live: Live, task: object, analysis: str, word: str
) -> None:
    check_error(register(live, json={"task_type": task, "analysis_type": analysis}), 412, word)


def test_registration_without_good_credentials_is_401(live: Live) -> None:
    other = live.new_organisation("other")
    mixed = {"Org-Id": other["Org-Id"], "x-api-key": live.api_key}
    for headers in (
        {},
        {"Org-Id": live.org_id},
        {"x-api-key": live.api_key},
        live.headers | {"x-api-key": "wrong"},
        live.headers | {"Org-Id": "wrong"},
        live.headers | {"Org-Id": b"\xff\xfe"},
        mixed,
    ):
        check_error(register(live, headers=headers), 401, "expected")


def test_job_calls_without_good_key_are_403(live: Live) -> None:
    for headers in ({}, {"Org-Id": live.org_id}, {"x-api-key": "wrong"}):
        for path in ("/job_status_detailed", "/job_detail", "/get_report"):
            check_error(live.get(path, headers=headers, job_id="x"), 403, "expected")
        answer = live.http.post(f"{live.api}/model_analyse/x", json=PAYLOAD, headers=headers)
        check_error(answer, 403, "expected")


def test_unknown_ids_are_404_and_missing_ones_400(live: Live) -> None:
    for path in ("/job_status_detailed", "/job_detail", "/get_report"):
        check_error(live.get(path, job_id="job-nowhere", report_type="Defense"), 404, "job_id")
        check_error(live.get(path), 400, "job_id")
    check_error(live.analyse("no-model"), 404, "model_id")


def test_other_organisations_see_nothing(live: Live) -> None:
    job = live.start_job()
    stranger = live.new_organisation("stranger")
    for path in ("/job_status_detailed", "/job_detail", "/get_report"):
        answer = live.get(path, headers=stranger, job_id=job["job_id"], report_type="Defense")
        check_error(answer, 404, "job_id")
    answer = live.http.post(
        f"{live.api}/model_analyse/{job['model_id']}", json=PAYLOAD, headers=stranger
    )
    check_error(answer, 404, "model_id")


def test_paths_and_methods_outside_the_contract_answer_json(live: Live) -> None:
    check_error(live.get("/nothing"), 404)
    check_error(live.http.delete(live.api + "/job_detail"), 405)
    check_error(live.http.post(live.api + "/supplychain", headers=live.headers), 412, "not supp")
    check_error(live.http.post(live.api + "/generate_model_id", headers=live.headers), 412)


def test_links_ignore_the_host_header(live: Live) -> None:
    answer = register(live, headers=live.headers | {"Host": "evil.example"})
    assert "evil" not in answer.text
    trailing = live.http.get(live.url + "/docs/", headers={"Host": "evil.example"})
    assert "evil" not in trailing.headers.get("location", "")


def test_docs_need_no_other_host(live: Live) -> None:
    page = live.http.get(live.url + "/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    paths = live.http.get(live.url + "/openapi.json").json()["paths"]
    assert f"{BASE}/model_analyse/{{model_id}}" in paths
    assert live.http.get(live.url + "/health").json()["status"] == "ok"


def test_keys_are_limited_and_the_oldest_goes(tmp_path: Path) -> None:
    with run_live(tmp_path / "data", keys_per_organisation=3, key_exchange_per_second=1000) as live:
        keys = [live.get("/get_aws_api_key").json()["x_api_key"] for _ in range(4)]
        assert len(set(keys)) == 4
        answers = [register(live, headers=live.headers | {"x-api-key": key}) for key in keys]
        assert [answer.status_code for answer in answers] == [401, 200, 200, 200]
        # the key of `org create` does not count and is never dropped
        assert register(live).status_code == 200
        stored = (live.data / "modelward.db").read_bytes()
        wal = live.data / "modelward.db-wal"
        stored += wal.read_bytes() if wal.exists() else b""
        for secret in (*keys, live.org_id, live.api_key):
            assert secret.encode() not in stored
            assert secret not in live.log.read_text()
        check_error(live.get("/get_aws_api_key", headers={}), 401)
        check_error(live.get("/get_aws_api_key", headers={"Org-Id": "mwo-wrong"}), 401)


def test_rates_are_limited_but_never_for_the_status(tmp_path: Path) -> None:
    settings = {"requests_per_second": 1, "request_burst": 5, "key_exchange_per_second": 1}
    with run_live(tmp_path / "data", **settings) as live:
        answers = [live.get("/get_aws_api_key") for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused and int(refused[0].headers["retry-after"]) >= 1
        check_error(refused[0], 429, "at most")
        answers = [live.get("/job_detail", job_id="x") for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        check_error(refused[0], 429, "per second")
        assert {a.status_code for a in answers} == {404, 429}
        answers = [live.get("/job_status_detailed", job_id="x") for _ in range(8)]
        assert {a.status_code for a in answers} == {404}


def test_key_exchange_can_be_off(tmp_path: Path) -> None:
    with run_live(tmp_path / "data", key_exchange="false") as live:
        check_error(live.get("/get_aws_api_key"), 403, "--no-key-exchange")
        done = CliRunner().invoke(app, ["audit", "show", "--data", str(live.data)])
        assert "key.exchange_refused" in done.output and "switched off" in done.output
        assert register(live).status_code == 200


def test_second_server_on_the_same_folder_is_refused(live: Live) -> None:
    with (
        pytest.raises(AssertionError, match="another server uses it"),
        run_live(live.data),
    ):
        pass


def test_public_url_is_the_start_of_every_link(tmp_path: Path) -> None:
    with run_live(tmp_path / "data", public_url="https://ward.example/prod/") as live:
        local = live.url
        assert local == "https://ward.example/prod"
        port = next(
            line.rsplit(":", 1)[1].split()[0]
            for line in live.log.read_text().splitlines()
            if "Listening on" in line
        )
        live.url = f"http://127.0.0.1:{port}"
        urls = live.register()["urls"]
        assert all(u.startswith("https://ward.example/prod/api/ais/v1.5/") for u in urls.values())
        for slot, content in make_archives().items():
            target = urls[f"{slot}_upload_url"].replace("https://ward.example", live.url)
            assert live.http.put(target, content=content).status_code == 200
