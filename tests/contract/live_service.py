"""A live server in a process of its own, and small archives that pass the gates."""

import io
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from modelward.jobs import create_organisation
from modelward.settings import Settings

HERE = Path(__file__).parent
BASE = "/api/ais/v1.5"
PAYLOAD: dict[str, Any] = {
    "use_model_api": "no",
    "model_api_details": "no",
    "normalize_data": "Yes",
    "input_dimensions": "(8, 8, 1)",
    "number_of_classes": "3",
    "attack_type": "blackbox",
    "number_of_attack_queries": 200,
    "model_framework": "tensorflow",
    "vulnerability_threshold": "0",
    "defense_bestonly": "no",
    "encryption_strategy": 0,
}


def make_zip(members: dict[str, bytes]) -> bytes:
    """A zip archive in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), level).save(buffer, "PNG")
    return buffer.getvalue()


def make_archives() -> dict[str, bytes]:
    """data, label and model archives for 8x8 gray images of three classes."""
    rows = "".join(f"{n}.png,{n % 3}\n" for n in range(12))
    return {
        "data": make_zip({f"data/{n}.png": _png(20 * n) for n in range(12)}),
        "label": make_zip({"label.csv": f"image,label\n{rows}".encode()}),
        "model": make_zip({"model.h5": b"\x89HDF\r\n\x1a\n" + bytes(64)}),
    }


@dataclass
class Live:
    """A running server and the credentials of one organisation."""

    url: str
    data: Path
    process: subprocess.Popen[str]
    log: Path
    org_id: str = ""
    api_key: str = ""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30))

    @property
    def headers(self) -> dict[str, str]:
        return {"Org-Id": self.org_id, "x-api-key": self.api_key}

    @property
    def api(self) -> str:
        return self.url + BASE

    def new_organisation(self, name: str) -> dict[str, str]:
        """An organisation made beside the running server, as the command line does."""
        made = create_organisation(Settings(data=self.data), name)
        return {"Org-Id": made.organisation_id, "x-api-key": made.api_key}

    def get(self, path: str, **query: Any) -> httpx.Response:
        headers = query.pop("headers", self.headers)
        return self.http.get(self.api + path, params=query, headers=headers)

    def register(self, task: str = "IC", analysis: str = "MEA", **options: Any) -> dict[str, Any]:
        answer = self.http.post(
            f"{self.api}/model_registration/upload",
            json={"task_type": task, "analysis_type": analysis},
            headers=options.get("headers", self.headers),
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])

    def upload_all(self, registered: dict[str, Any], archives: dict[str, bytes]) -> None:
        for slot, content in archives.items():
            target = registered["urls"][f"{slot}_upload_url"]
            if isinstance(target, str):
                assert self.http.put(target, content=content).status_code == 200
            else:
                form = {"data": target["fields"], "files": {"file": (f"{slot}.zip", content)}}
                assert self.http.post(target["url"], **form).status_code == 204

    def analyse(self, model_id: str, **changes: Any) -> httpx.Response:
        return self.http.post(
            f"{self.api}/model_analyse/{model_id}", json=PAYLOAD | changes, headers=self.headers
        )

    def start_job(self, **changes: Any) -> dict[str, Any]:
        """Register, upload and analyse."""
        registered = self.register()
        self.upload_all(registered, make_archives())
        answer = self.analyse(registered["model_id"], **changes)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def status(self, job_id: str) -> dict[str, Any]:
        answer = self.get("/job_status_detailed", job_id=job_id)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(
        self, job_id: str, until: Callable[[dict[str, Any]], bool] | None = None
    ) -> dict[str, Any]:
        """Poll until the job ended, or until a condition holds."""
        done = until or (lambda status: status["JobState"] in ("succeeded", "failed", "cancelled"))
        give_up = time.monotonic() + 120
        while not done(status := self.status(job_id)):
            assert time.monotonic() < give_up, status
            time.sleep(0.1)
        return status


@contextmanager
def run_live(data: Path, *, script: list[str] | None = None, **settings: Any) -> Iterator[Live]:
    """Start a server, wait for its line, stop it at the end."""
    environment = {
        **os.environ,
        "MODELWARD_REQUESTS_PER_SECOND": "10000",
        "MODELWARD_REQUEST_BURST": "10000",
        "MODELWARD_ADDRESS_REQUESTS_PER_SECOND": "10000",
        "MODELWARD_ADDRESS_BURST": "10000",
        "MODELWARD_FAILURE_BURST": "10000",
        **{f"MODELWARD_{name.upper()}": str(value) for name, value in settings.items()},
    }
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = data.with_suffix(".log")
    command = script or [sys.executable, str(HERE / "live_server.py"), str(data)]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    guard = threading.Timer(180, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        guard.cancel()
        found = re.fullmatch(r"Modelward is serving at (\S+)\n", line)
        assert found, f"no address in {line!r}; log: {log.read_text()}"
        live = Live(url=found[1], data=data, process=process, log=log)
        made = live.new_organisation("tests")
        live.org_id, live.api_key = made["Org-Id"], made["x-api-key"]
        try:
            yield live
        finally:
            live.http.close()
    finally:
        guard.cancel()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
