"""Asks for the status of jobs until it is told to stop: ``_load_poller.py URL FOLDER``.

A process of its own, so that what it measures is the server and not who sends the load. Reads
FOLDER/jobs (job id and key in a line, growing), writes FOLDER/taken (seconds since 1970 and
milliseconds in a line), ends when FOLDER/stop is there.
"""

import random
import sys
import time
from pathlib import Path

import httpx

PAUSE_SECONDS = 0.02
MOST_SECONDS = 4 * 3600


def main(url: str, folder: Path) -> None:
    """Poll one job after the other, chosen at random."""
    known: list[tuple[str, str]] = []
    chance = random.Random(0)
    give_up = time.monotonic() + MOST_SECONDS
    with (
        httpx.Client(timeout=60) as http,
        (folder / "jobs").open() as jobs,
        (folder / "taken").open("w") as taken,
    ):
        while not (folder / "stop").exists() and time.monotonic() < give_up:
            known += [tuple(line.split()) for line in jobs]  # type: ignore[misc]
            if not known:
                time.sleep(PAUSE_SECONDS)
                continue
            job, key = chance.choice(known)
            began = time.perf_counter()
            answer = http.get(
                f"{url}/api/ais/v1.5/job_status_detailed",
                params={"job_id": job},
                headers={"x-api-key": key},
            )
            spent = (time.perf_counter() - began) * 1000
            answer.raise_for_status()
            taken.write(f"{time.time():.3f} {spent:.3f}\n")
            time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
