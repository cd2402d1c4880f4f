"""Keys over HTTP and on the command line, and the trail that everything leaves."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_service import Live, make_archives, run_live
from typer.testing import CliRunner

from modelward.cli import app


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with run_live(tmp_path_factory.mktemp("access") / "data") as live:
        yield live


def make(live: Live, **body: Any) -> httpx.Response:
    return live.http.post(live.api + "/keys", json=body, headers=live.headers)


def works(live: Live, key: str) -> bool:
    answer = live.get("/job_detail", headers={"x-api-key": key}, job_id="x")
    assert answer.status_code in (403, 404)
    return answer.status_code == 404


def test_life_of_a_key(own: Live) -> None:
    made = make(own, label="build server", role="submitter", expires_in_seconds=3600).json()
    assert set(made) >= {"x_api_key", "key_id", "label", "role", "state", "expires", "last_used"}
    assert made["last_used"] is None
    listed = own.get("/keys").json()["keys"]
    assert made["x_api_key"] not in str(listed)
    assert listed[0] | {"x_api_key": made["x_api_key"]} == made
    assert works(own, made["x_api_key"])
    assert own.get("/keys").json()["keys"][0]["last_used"] >= made["created"]
    address = f"{own.api}/keys/{made['key_id']}"
    rotated = own.http.post(
        f"{address}/rotate", json={"grace_seconds": 3600}, headers=own.headers
    ).json()
    assert works(own, made["x_api_key"]) and works(own, rotated["x_api_key"])
    # rotating needs no body; the default leaves the old key no time
    address = f"{own.api}/keys/{rotated['key_id']}"
    last = own.http.post(f"{address}/rotate", headers=own.headers).json()
    assert not works(own, rotated["x_api_key"]) and works(own, last["x_api_key"])
    address = f"{own.api}/keys/{last['key_id']}"
    assert own.http.delete(address, headers=own.headers).json()["state"] == "revoked"
    assert not works(own, last["x_api_key"])
    # the very next request of a revoked key is refused, at registration with 401
    answer = own.http.post(
        own.api + "/model_registration/upload",
        json={"task_type": "IC", "analysis_type": "MEA"},
        headers=own.headers | {"x-api-key": last["x_api_key"]},
    )
    assert answer.status_code == 401 and "revoked" in answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({}, 400, "label"),
        ({"label": "x"}, 400, "role"),
        ({"label": "x", "role": "root"}, 412, "admin, submitter, viewer"),
        ({"label": "x\u202ey", "role": "viewer"}, 412, "printable"),
        ({"label": 1, "role": "viewer"}, 412, "printable"),
        ({"label": "x", "role": "viewer", "expires_in_seconds": "soon"}, 412, "number"),
        ({"label": "x", "role": "viewer", "expires_in_seconds": True}, 412, "number"),
        ({"label": "x", "role": "viewer", "expires_in_seconds": -1}, 412,
         "expires_in_seconds: expected more than 0"),
        ({"label": "x", "role": "viewer", "expires_in_seconds": 10**400}, 412,
         "expires_in_seconds: expected a smaller number"),
    ],
)  # fmt: skip
def test_unfit_requests_for_keys(own: Live, body: dict[str, Any], status: int, word: str) -> None:
    answer = make(own, **body)
    assert answer.status_code == status, answer.text
    assert word in answer.json()["message"]


@pytest.mark.parametrize("grace", [-1, 1e9, 10**400, "soon"])
def test_unfit_grace_is_named_as_it_was_sent(own: Live, grace: object) -> None:
    made = make(own, label="x", role="viewer").json()
    answer = own.http.post(
        f"{own.api}/keys/{made['key_id']}/rotate",
        json={"grace_seconds": grace}, headers=own.headers,
    )  # fmt: skip
    assert answer.status_code == 412
    assert answer.json()["message"].startswith("grace_seconds: expected ")
    assert works(own, made["x_api_key"])


def test_last_admin_key_cannot_lock_itself_out(own: Live) -> None:
    mine = next(key for key in own.get("/keys").json()["keys"] if key["role"] == "admin")
    answer = own.http.delete(f"{own.api}/keys/{mine['key_id']}", headers=own.headers)
    assert answer.status_code == 409 and "last admin key" in answer.json()["message"]
    assert own.http.delete(f"{own.api}/keys/key-none", headers=own.headers).status_code == 404


def test_role_of_exchanged_keys_is_a_setting(tmp_path: Path) -> None:
    with run_live(tmp_path / "data", key_exchange_role="viewer") as live:
        minted = live.get("/get_aws_api_key").json()["x_api_key"]
        headers = live.headers | {"x-api-key": minted}
        assert live.get("/job_detail", headers=headers, job_id="x").status_code == 404
        answer = live.http.post(
            live.api + "/model_registration/upload",
            json={"task_type": "IC", "analysis_type": "MEA"},
            headers=headers,
        )
        assert answer.status_code == 403 and "role submitter" in answer.json()["message"]


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout


def test_commands_beside_a_running_server(own: Live) -> None:
    data = ["--data", str(own.data)]
    number = next(
        str(item["number"])
        for item in json.loads(run("org", "list", "--json", *data)[1])
        if item["name"] == "tests"
    )
    code, text = run("key", "create", number, "--label", "ops", "--role", "viewer", "--json", *data)
    made = json.loads(text)
    line = rf"{made['key_id']} .*  used never  "
    assert made["last_used"] is None and re.search(line, run("key", "list", number, *data)[1])
    assert code == 0 and works(own, made["api_key"])
    assert not re.search(line, run("key", "list", number, *data)[1])
    code, text = run("key", "rotate", "tests", made["key_id"], "--json", *data)
    rotated = json.loads(text)
    assert works(own, rotated["api_key"]) and not works(own, made["api_key"])
    assert run("key", "revoke", own.org_id, rotated["key_id"], *data)[0] == 0
    assert not works(own, rotated["api_key"])
    code, text = run("key", "list", number, *data)
    assert rotated["key_id"] in text and "revoked" in text and "mwk-" not in text
    for wrong in (["key", "list", "nobody"], ["key", "revoke", number, "key-none"],
                  ["key", "create", number, "--label", "a\nb"],
                  ["key", "create", number, "--label", "a", "--role", "root"]):  # fmt: skip
        assert run(*wrong, *data)[0] == 2


def test_signing_key_is_rotated_under_a_running_server(own: Live) -> None:
    job = own.start_job()
    upload = own.register()["urls"]["data_upload_url"]
    assert run("signing-key", "rotate", "--data", str(own.data))[0] == 0
    assert own.http.get(job["monitor_link"]).status_code == 200
    assert own.http.put(upload, content=make_archives()["data"]).status_code == 200
    newer = own.start_job()
    assert own.http.get(newer["monitor_link"]).status_code == 200
    assert run("signing-key", "rotate", "--drop-old", "--data", str(own.data))[0] == 0
    for link in (job["monitor_link"], newer["monitor_link"]):
        assert own.http.get(link).status_code == 403
    own.wait(job["job_id"])
    own.wait(newer["job_id"])


def test_everything_leaves_its_entry(own: Live) -> None:
    minted = own.get("/get_aws_api_key").json()["x_api_key"]
    own.get("/get_aws_api_key", headers={"Org-Id": "mwo-wrong"})
    own.get("/job_detail", headers={"x-api-key": "wrong"}, job_id="x")
    registered = own.register()
    target = registered["urls"]["data_upload_url"]
    assert own.http.put(target, content=b"no zip").status_code == 400
    own.http.put(target.replace("token=", "token=x"), content=b"no zip")
    own.upload_all(registered, make_archives())
    job = own.analyse(registered["model_id"]).json()
    own.wait(job["job_id"])
    for _ in range(3):
        assert own.http.get(job["monitor_link"]).status_code == 200
    own.get(
        "/get_report", job_id=job["job_id"], report_type="Vulnerability", file_format=3,
        headers=own.headers | {"X-Request-Id": "my-request-1"},
    )  # fmt: skip
    code, text = run("audit", "show", "--json", "--data", str(own.data))
    lines = [json.loads(line) for line in text.splitlines()]
    events = {line["event"] for line in lines}
    assert events >= {
        "organisation.created", "key.created", "key.exchanged", "key.exchange_refused",
        "key.refused", "model.registered", "upload.accepted", "upload.rejected", "link.refused",
        "analysis.started", "job.ended", "download", "link.opened", "server.started",
    }  # fmt: skip
    about = [line for line in lines if line["subject"] == job["job_id"]]
    assert [line["event"] for line in about] == [
        "analysis.started", "job.ended", "link.opened", "download",
    ]  # fmt: skip
    by_key = about[0]["actor"]
    assert by_key.startswith("key-") and by_key == about[3]["actor"]
    assert [line["actor"] for line in about[1:3]] == ["worker", "link"]
    assert about[3]["request_id"] == "my-request-1" and about[3]["address"] == "127.0.0.1"
    started = next(line for line in lines if line["event"] == "server.started")
    assert started["detail"]["max_jobs"] == "1"
    for secret in (own.org_id, own.api_key, minted, "token="):
        assert secret not in text
    assert code == 0
    assert run("audit", "verify", "--data", str(own.data))[0] == 0


def test_audit_command_as_a_process(own: Live) -> None:
    """Exit codes as a script sees them, while the server writes."""
    done = subprocess.run(
        [sys.executable, "-c", "from modelward.cli import app; app()", "audit", "verify",
         "--data", str(own.data), "--expect-head", "f" * 64],
        capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cut or rewritten" in done.stdout
