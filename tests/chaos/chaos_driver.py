"""Kills workers and the server while jobs run, and holds the service to its promises.

    python tests/chaos/chaos_driver.py --kills 100 --real 3

Requests come all the while, each repeated under its Idempotency-Key until it is answered. After
the last kill every accepted job must be finished or failed with a reason; every finished report
must open and hold the value that only an undisturbed chain of steps gives; no key may have made
two jobs. The same seed gives the same kinds of kills at the same pauses.
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
import zipfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pypdf import PdfReader

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "contract")]

from chaos_worker import last_value  # noqa: E402
from live_service import BASE, PAYLOAD, make_archives  # noqa: E402

from modelward.jobs import create_organisation  # noqa: E402
from modelward.jobs.processes import process_children  # noqa: E402
from modelward.settings import Settings  # noqa: E402

_OPEN_JOBS = 6
_PATIENCE = 300.0
_SERVER_SHARE = 0.2
_LONGEST_PAUSE = 3.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Server:
    """A server that can be killed and started again at the same address."""

    def __init__(self, data: Path) -> None:
        self.data, self.port = data, _free_port()
        self.api = f"http://127.0.0.1:{self.port}{BASE}"
        self.log = data.with_suffix(".log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "chaos_server.py"), str(self.data), str(self.port)],
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        guard = threading.Timer(120, self.process.kill)
        guard.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        guard.cancel()
        if not line:
            raise SystemExit(f"the server did not start; see {self.log.name}")

    def workers(self) -> list[int]:
        return process_children().get(self.process.pid, [])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.kill()
            self.log.close()


@dataclass
class Accepted:
    """A job whose request was answered."""

    job_id: str
    key: str
    seed: int
    real: bool


@dataclass
class Crowd:
    """Sends requests until it is told to stop."""

    server: Server
    headers: dict[str, str]
    models: dict[bool, str]
    real: int
    accepted: list[Accepted] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        with httpx.Client(timeout=20) as http:
            while not self.stopping.is_set():
                try:
                    if self._open(http) < _OPEN_JOBS:
                        number += 1
                        self._send(http, number, real=number <= self.real)
                except httpx.HTTPError:
                    time.sleep(0.05)
                time.sleep(0.02)

    def _open(self, http: httpx.Client) -> int:
        recent = [job.job_id for job in self.accepted[-2 * _OPEN_JOBS :]]
        return sum(not ended(status(http, self, job)) for job in recent)

    def _send(self, http: httpx.Client, number: int, *, real: bool) -> None:
        """Repeat one request under its key until an answer comes through."""
        key = f"request-{number}"
        payload = PAYLOAD | {"seed": number, "real": real}
        if real:
            payload |= {"number_of_classes": 10, "number_of_attack_queries": 20}
        while not self.stopping.is_set():
            try:
                answer = http.post(
                    f"{self.server.api}/model_analyse/{self.models[real]}",
                    json=payload,
                    headers=self.headers | {"Idempotency-Key": key},
                )
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code == 200:
                self.accepted.append(Accepted(answer.json()["job_id"], key, number, real))
                return
            if answer.status_code not in (429, 503):
                self.problems.append(f"{key}: {answer.status_code} {answer.text}")
                return
            time.sleep(0.1)


def status(http: httpx.Client, crowd: Crowd, job_id: str) -> dict[str, Any]:
    answer = http.get(
        f"{crowd.server.api}/job_status_detailed",
        params={"job_id": job_id},
        headers=crowd.headers,
    )
    answer.raise_for_status()
    return dict(answer.json())


def ended(found: dict[str, Any]) -> bool:
    return found["JobState"] in ("succeeded", "failed", "cancelled")


def _prepare(server: Server, real: bool) -> tuple[dict[str, str], dict[bool, str]]:
    made = create_organisation(Settings(data=server.data), "chaos")
    headers = {"Org-Id": made.organisation_id, "x-api-key": made.api_key}
    archives = {False: make_archives()}
    if real:
        from digits_model import digits_archives

        with tempfile.TemporaryDirectory() as folder:
            archives[True] = digits_archives(Path(folder))
    models = {}
    with httpx.Client(timeout=60) as http:
        for kind, files in archives.items():
            answer = http.post(
                f"{server.api}/model_registration/upload",
                json={"task_type": "IC", "analysis_type": "MEA"},
                headers=headers,
            ).raise_for_status()
            registered = answer.json()["data"]
            for slot, content in files.items():
                url = registered["urls"][f"{slot}_upload_url"]
                http.put(url, content=content).raise_for_status()
            models[kind] = registered["model_id"]
    return headers, models


def _undisturbed(crowd: Crowd) -> float:
    """How long a job takes on this machine, now, while nothing is killed."""
    give_up = time.monotonic() + _PATIENCE
    with httpx.Client(timeout=30) as http:
        while time.monotonic() < give_up:
            for job in [job for job in crowd.accepted if not job.real]:
                began = time.monotonic()
                while not ended(status(http, crowd, job.job_id)) and time.monotonic() < give_up:
                    time.sleep(0.05)
                return time.monotonic() - began
            time.sleep(0.05)
    raise SystemExit("no job was accepted and ended in time")


def _rampage(server: Server, crowd: Crowd, kills: int, rng: random.Random) -> dict[str, int]:
    """Kill so fast that few jobs are spared, and so slowly that most can end."""
    done = {"workers": 0, "servers": 0}
    length = _undisturbed(crowd)
    give_up = time.monotonic() + _PATIENCE + 10 * kills
    while sum(done.values()) < kills:
        if time.monotonic() > give_up:
            raise SystemExit(f"only {done} kills in time; see {server.log.name}")
        time.sleep(min(rng.uniform(0.2, 1.2) * length, _LONGEST_PAUSE))
        if rng.random() < _SERVER_SHARE and crowd.accepted:
            server.kill()
            done["servers"] += 1
            time.sleep(rng.uniform(0, 0.2))
            server.start()
        elif workers := server.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                done["workers"] += 1
    return done


def _judge(http: httpx.Client, crowd: Crowd, job: Accepted) -> str:
    """Hold one ended job against what was promised.

    Returns:
        Its state.
    """
    found = status(http, crowd, job.job_id)
    state = str(found["JobState"])
    if state == "failed":
        if "of 3, no further is made" not in found["CurrentStatus"]:
            crowd.problems.append(f"{job.job_id} failed without a good reason: {found}")
        return state
    if state != "succeeded":
        crowd.problems.append(f"{job.job_id}: expected an end; got {found}")
        return state
    for name in ("Vulnerability", "Defense"):
        answer = http.get(
            f"{crowd.server.api}/get_report",
            params={"job_id": job.job_id, "report_type": name, "file_format": 0},
            headers=crowd.headers,
        )
        try:
            _open_report(answer, name, None if job.real else last_value(job.seed))
        except Exception as error:
            crowd.problems.append(f"{job.job_id} {name}: {type(error).__name__}: {error}")
    return state


def _open_report(answer: httpx.Response, name: str, value: str | None) -> None:
    answer.raise_for_status()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        if archive.testzip():
            raise ValueError("damaged zip")
        report = json.loads(archive.read(f"{name}.json"))
        ET.fromstring(archive.read(f"{name}.xml"))
        if not PdfReader(io.BytesIO(archive.read(f"{name}.pdf"))).pages:
            raise ValueError("PDF without pages")
        if not archive.read(f"{name}.txt"):
            raise ValueError("empty text")
    if value is not None and name == "Defense" and report["value"] != value:
        raise ValueError(f"expected the value {value[:8]}; got {report['value'][:8]}")


def _wait_for_all(http: httpx.Client, crowd: Crowd) -> None:
    give_up = time.monotonic() + _PATIENCE
    for job in crowd.accepted:
        while not ended(found := status(http, crowd, job.job_id)):
            if time.monotonic() > give_up:
                raise SystemExit(f"{job.job_id} does not end: {found}")
            time.sleep(0.1)


def _count_keys(data: Path, crowd: Crowd) -> None:
    with closing(sqlite3.connect(data / "modelward.db")) as connection:
        jobs = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
        keys = connection.execute("SELECT count(*) FROM idempotency_keys").fetchone()[0]
        sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
    # the last request may have been accepted without its answer coming through
    if jobs != keys or not len(crowd.accepted) <= jobs <= len(crowd.accepted) + 1:
        crowd.problems.append(f"{jobs} jobs for {keys} keys, {len(crowd.accepted)} answered")
    if sound != "ok":
        crowd.problems.append(f"database: {sound}")


def run(kills: int, seed: int, real: int, data: Path) -> list[str]:
    """Run the whole thing.

    Returns:
        What went wrong; empty where every promise was kept.
    """
    began, rng = time.monotonic(), random.Random(seed)
    server = Server(data)
    try:
        headers, models = _prepare(server, real > 0)
        crowd = Crowd(server, headers, models, real)
        sender = threading.Thread(target=crowd.run)
        sender.start()
        try:
            done = _rampage(server, crowd, kills, rng)
        finally:
            crowd.stopping.set()
            sender.join(60)
        with httpx.Client(timeout=30) as http:
            _wait_for_all(http, crowd)
            states = [_judge(http, crowd, job) for job in crowd.accepted]
        # uvicorn hands the signal on after it has ended in order
        if server.stop() not in (0, -signal.SIGTERM):
            crowd.problems.append("the server did not end in order")
    finally:
        if server.process.poll() is None:
            server.kill()
    _count_keys(data, crowd)
    left = [path for name in ("work", "checkpoints") for path in (data / name).glob("*")]
    if left:
        crowd.problems.append(f"left behind: {left}")
    print(
        f"{done['workers']} workers and {done['servers']} servers killed in "
        f"{time.monotonic() - began:.0f} s (seed {seed}); {len(states)} jobs accepted, "
        f"{states.count('succeeded')} finished and opened, {states.count('failed')} failed with "
        f"the reason, {len(crowd.problems)} problems",
        flush=True,
    )
    return crowd.problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=int, default=3, help="jobs of the real pipeline")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelward-chaos-") as folder:
        problems = run(given.kills, given.seed, given.real, Path(folder) / "data")
        for problem in problems:
            print(problem, file=sys.stderr)
        if problems:
            lines = (Path(folder) / "data.log").read_text().splitlines()
            told = [line for line in lines if " 200 OK" not in line]
            print("\n".join(told[-80:]), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
