"""A crowd at the door: many organisations send many jobs at once while the status is polled.

200 organisations send 2,000 jobs of a pipeline that does nothing, ten jobs of each organisation
one after the other, and ten real extractions come in between. Measured against the same server
idle before:

- nothing is lost: every accepted job ends finished, or failed with a reason; reports open;
- the order is fair: while the first waiting job of an organisation waits, no other organisation
  is served twice (first come, first served would let one be served ten times);
- the status stays quick: its 99th percentile against the idle server's;
- a gigabyte passes through without staying in the server's memory.

``--quick`` takes 20 organisations, 100 jobs, one real one and 128 MiB. Exit code 1 where a job is
lost, the order is not fair, or memory grew too far.
"""

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONTRACT = HERE.parent / "tests" / "contract"
sys.path.insert(0, str(CONTRACT))

import httpx  # noqa: E402
import test_upload_memory as big  # noqa: E402
from _load_order import unfairness  # noqa: E402
from live_service import BASE, PAYLOAD, Live, make_archives, run_live  # noqa: E402

SENDERS = 8
MAX_JOBS = 2
REAL_QUERIES = 300
GROWTH = 100 * 10**6
TARGET_MS = 100
IDLE_SECONDS = 15
MOST_SECONDS = 3 * 3600


@dataclass
class Crowd:
    """What was accepted, and how often the door was closed."""

    live: Live
    watched: Path
    accepted: dict[str, dict[str, str]] = field(default_factory=dict)
    """Headers of the owner by job id."""
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, headers: dict[str, str], archives: dict[str, bytes], **changes: Any) -> None:
        """Register, upload, and ask for the analysis until there is room in the queue."""
        with httpx.Client(timeout=120, headers=headers) as http:
            url = self.live.url + BASE
            made = http.post(
                f"{url}/model_registration/upload",
                json={"task_type": "IC", "analysis_type": "MEA"},
            )
            made.raise_for_status()
            data = made.json()["data"]
            for slot, content in archives.items():
                http.put(data["urls"][f"{slot}_upload_url"], content=content).raise_for_status()
            body = PAYLOAD | changes
            while True:
                answer = http.post(f"{url}/model_analyse/{data['model_id']}", json=body)
                if answer.status_code != 429:
                    break
                with self.lock:
                    self.refused += 1
                time.sleep(float(answer.headers["Retry-After"]))
            answer.raise_for_status()
        job = answer.json()["job_id"]
        with self.lock:
            self.accepted[job] = headers
            with (self.watched / "jobs").open("a") as file:
                file.write(f"{job} {headers['x-api-key']}\n")


@contextmanager
def polling(live: Live, folder: Path) -> Iterator[None]:
    """Poll the status in another process while the body runs."""
    (folder / "stop").unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "_load_poller.py"), live.url, str(folder)]
    process = subprocess.Popen(command)
    try:
        yield
        assert process.poll() is None, "the poller met an error"
    finally:
        (folder / "stop").touch()
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()


def latencies(folder: Path) -> list[float]:
    """Milliseconds of every status call."""
    return [float(line.split()[1]) for line in (folder / "taken").read_text().splitlines()]


def told(name: str, taken: list[float]) -> float:
    """Print the percentiles and give back the 99th."""
    p99 = statistics.quantiles(taken, n=100)[98]
    print(
        f"{name}: {len(taken)} status calls, median {statistics.median(taken):.1f} ms, "
        f"p99 {p99:.1f} ms, max {max(taken):.0f} ms",
        flush=True,
    )
    return p99


def rows(live: Live, query: str) -> list[tuple[Any, ...]]:
    """Read the server's database beside it."""
    connection = sqlite3.connect(f"file:{live.data / 'modelward.db'}?mode=ro", uri=True, timeout=60)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def wait_for_end(live: Live) -> None:
    """Until no job waits or runs."""
    give_up = time.monotonic() + MOST_SECONDS
    shown = 0.0
    while time.monotonic() < give_up:
        states = dict(rows(live, "SELECT state, count(*) FROM jobs GROUP BY state"))
        if not states.get("queued") and not states.get("running"):
            return
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            print(
                "  ", ", ".join(f"{count} {state}" for state, count in states.items()), flush=True
            )
        time.sleep(1)
    raise SystemExit(f"jobs are still open after {MOST_SECONDS} s")


def check_jobs(crowd: Crowd) -> bool:
    """Print how the jobs ended and in which order they ran; whether all is well."""
    live = crowd.live
    ended = {
        job: (state, message)
        for job, state, message in rows(live, "SELECT id, state, message FROM jobs")
    }
    lost = [
        job for job in crowd.accepted
        if ended.get(job, ("", ""))[0] != "succeeded"
        and not (ended.get(job, ("", ""))[0] == "failed" and ended[job][1])
    ]  # fmt: skip
    states = Counter(ended[job][0] for job in crowd.accepted if job in ended)
    reasons = Counter(message for state, message in ended.values() if state == "failed")
    print(f"accepted {len(crowd.accepted)}: {dict(states)}, lost {len(lost)}; "
          f"429 on submission: {crowd.refused}")  # fmt: skip
    for reason, count in reasons.most_common(3):
        print(f"  failed {count}: {reason[:200]}")
    unread = 0
    for job, headers in list(crowd.accepted.items())[::10]:
        if ended[job][0] == "succeeded":
            answer = live.get(
                "/get_report", job_id=job, report_type="Vulnerability", file_format=3,
                headers=headers,
            )  # fmt: skip
            unread += not (answer.status_code == 200 and answer.json())
    print(f"reports that do not open, of every tenth job: {unread}")
    started = rows(
        live,
        "SELECT organisation_id, created, started FROM jobs WHERE started IS NOT NULL AND "
        f"id IN ({','.join(repr(job) for job in crowd.accepted)})",
    )
    found = unfairness(started)
    waits = defaultdict(list)
    for organisation, created, start in started:
        waits[organisation].append(start - created)
    mean = sorted(statistics.mean(times) for times in waits.values())
    print(f"starts of one other organisation while a first job waited: at most {max(found)} "
          f"(round robin: 1, or 2 with {MAX_JOBS} at a time); "
          f"jobs by count {dict(found)}")  # fmt: skip
    print(f"mean waiting of an organisation: {mean[0]:.1f} to {mean[-1]:.1f} s")
    return not lost and not unread and max(found) <= MAX_JOBS


def big_upload(live: Live, mebibytes: int) -> bool:
    """Print by how much the server grew at most; whether that is little enough."""
    big.SIZE = mebibytes * big.MEBI
    registered = live.register()
    Path(f"/proc/{live.process.pid}/clear_refs").write_text("5")  # the peak counts from here
    before = big.memory(live, "VmRSS")
    began = time.monotonic()
    answer = live.http.put(
        registered["urls"]["data_upload_url"], content=big.big_zip(), timeout=900
    )
    answer.raise_for_status()
    growth = big.memory(live, "VmHWM") - before
    print(f"upload of {mebibytes} MiB: {time.monotonic() - began:.0f} s, server grew by at most "
          f"{growth / 1e6:.0f} MB (target: 100 MB)")  # fmt: skip
    return growth < GROWTH


def real_archives(folder: Path) -> dict[str, bytes]:
    """A small model of 8x8 digits; trained in another process, which may import torch."""
    code = (
        f"import sys; sys.path.insert(0, {str(CONTRACT)!r}); from pathlib import Path\n"
        "from digits_model import digits_archives\n"
        f"for slot, raw in digits_archives(Path({str(folder)!r})).items():\n"
        f"    Path({str(folder)!r}, slot + '.zip').write_bytes(raw)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
    return {slot: (folder / f"{slot}.zip").read_bytes() for slot in ("data", "label", "model")}


def load(live: Live, folder: Path, organisations: int, jobs: int, real: int) -> Crowd:
    """Send everything and wait for its end."""
    crowd = Crowd(live, folder)
    archives, digits = make_archives(), real_archives(folder)
    owners = [live.new_organisation(f"crowd {number}") for number in range(organisations)]
    each = jobs // organisations

    def member(number: int) -> None:
        for _ in range(each):
            crowd.send(owners[number], archives, load="nothing")
        if number < real:
            crowd.send(
                owners[number], digits, load="real", number_of_classes="10",
                number_of_attack_queries=REAL_QUERIES,
            )  # fmt: skip

    began = time.monotonic()
    with ThreadPoolExecutor(SENDERS) as pool:
        for done in [pool.submit(member, number) for number in range(organisations)]:
            done.result()
    print(f"sent {len(crowd.accepted)} jobs in {time.monotonic() - began:.0f} s", flush=True)
    wait_for_end(live)
    spent = time.monotonic() - began
    print(f"all ended after {spent:.0f} s: {len(crowd.accepted) / spent:.1f} jobs per second")
    return crowd


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    organisations, jobs, real, mebibytes = (20, 100, 1, 128) if quick else (200, 2000, 10, 1024)
    limits = {"max_jobs": MAX_JOBS, "failures_per_second": 10_000}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = [sys.executable, str(HERE / "_load_server.py"), str(folder / "data")]
        with run_live(folder / "data", script=script, **limits) as live:
            first = Crowd(live, folder)
            first.send(live.headers, make_archives(), load="nothing")
            wait_for_end(live)
            with polling(live, folder):
                time.sleep(IDLE_SECONDS)
            idle = told("idle", latencies(folder))
            os.nice(10)  # those who send are elsewhere; here they must not take the server's time
            with polling(live, folder):
                crowd = load(live, folder, organisations, jobs, real)
                small = big_upload(live, mebibytes)
            busy = told("under load", latencies(folder))
            print(f"p99 of status under load: {busy:.1f} ms (target: {TARGET_MS} ms), ratio to the "
                  f"idle server {busy / idle:.2f}")  # fmt: skip
            well = check_jobs(crowd)
    return 0 if well and small else 1


if __name__ == "__main__":
    sys.exit(main())
