"""How much longer a defence's call takes while it reports to a SIEM that is down.

The same call, with a model that costs next to nothing, in blocks with and without a SIEM, in turn
in one process. Both SIEMs are configured, and both are down: once they refuse connections, once
they take them and never answer. Calls come one after another without a pause, and every 10 ms.

Prints the median and the 99th percentile, their difference in milliseconds and the ratio of the
medians. The target is at most 1 ms more at the median for a call that flags up to 100 rows.
``--quick`` asks fewer times.
"""

import argparse
import base64
import logging
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from modelward.defense import runtime

ROWS = (1, 10, 100)
PAUSES = (0.0, 0.01)
BLOCK = 20
TARGET_MS = 1.0


def always_an_attack(images: np.ndarray) -> np.ndarray:
    """A model that flags everything at once: (n, height, width, channels) -> (n, 2)."""
    answer = np.empty((len(images), 2), dtype=np.float32)
    answer[:, 0], answer[:, 1] = 0.07, 0.93
    return answer


@contextmanager
def refusing() -> Iterator[int]:
    """A port of this machine on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen(8)
        yield holder.getsockname()[1]


def taken(
    defense: runtime.AISDefenseModel, images: np.ndarray, calls: int, pause: float
) -> list[float]:
    """Milliseconds of each call."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        defense.predict(images)
        times.append((time.perf_counter() - began) * 1000)
        if pause:
            time.sleep(pause)
    return times


def compared(
    defense: runtime.AISDefenseModel, rows: int, blocks: int, pause: float
) -> tuple[list[float], list[float]]:
    """Milliseconds of calls without and with a SIEM, in blocks by turns."""
    plain = runtime.AISDefenseModel(always_an_attack)
    images = np.random.default_rng(0).random((rows, 8, 8, 1), dtype=np.float32)
    without, reporting = [], []
    taken(plain, images, BLOCK, pause)
    taken(defense, images, BLOCK, pause)
    for _ in range(blocks):
        # What the last block left in the spool is sorted before calls without a SIEM are timed.
        time.sleep(0.4)
        without += taken(plain, images, BLOCK, pause)
        reporting += taken(defense, images, BLOCK, pause)
    return without, reporting


def reported(port: int, folder: Path) -> runtime.AISDefenseModel:
    """A defence that reports to both SIEMs, both at a port of this machine."""
    return runtime.AISDefenseModel(
        always_an_attack,
        azure_log_customer_id="benchmark",
        azure_log_shared_key=base64.b64encode(b"benchmark").decode(),
        azure_log_endpoint=f"http://127.0.0.1:{port}",
        splunk_url=f"http://127.0.0.1:{port}",
        authorization="benchmark",
        asset_id="benchmark",
        spool_path=folder / "spool.db",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    blocks = 5 if parser.parse_args().quick else 15
    logging.getLogger("modelward.siem").setLevel(logging.CRITICAL)
    worst = 0.0
    for name, down in (("refused", refusing), ("silent", silent)):
        for pause in PAUSES:
            with tempfile.TemporaryDirectory() as folder, down() as port:
                defense = reported(port, Path(folder))
                for rows in ROWS:
                    without, reporting = compared(defense, rows, blocks, pause)
                    worst = max(worst, shown(name, pause, rows, without, reporting))
                stats = defense.stats()
                defense.close()
            print(
                f"  events: {stats['submitted']} submitted, {stats['dropped']} dropped, "
                f"{stats['overflowed']} through memory"
            )
    print(f"most at the median: {worst:+.3f} ms (target: {TARGET_MS:g} ms)")


def shown(
    name: str, pause: float, rows: int, without: list[float], reporting: list[float]
) -> float:
    """Print a comparison; the difference of the medians in milliseconds."""
    halves = [statistics.median(times) for times in (without, reporting)]
    tails = [statistics.quantiles(times, n=100)[98] for times in (without, reporting)]
    extra, ratio = halves[1] - halves[0], halves[1] / halves[0]
    print(
        f"{name:8s} pause {pause * 1000:2.0f} ms, {rows:3d} rows flagged: median "
        f"{halves[0]:.3f} -> {halves[1]:.3f} ms ({extra:+.3f} ms, ratio {ratio:.1f}), "
        f"p99 {tails[0]:.2f} -> {tails[1]:.2f} ms"
    )
    return extra


if __name__ == "__main__":
    main()
