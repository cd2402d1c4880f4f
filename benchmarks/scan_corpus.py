"""How many hostile model files a scanner notices, and how many honest ones it accuses.

Modelward, picklescan and modelscan look at the same files in the same run: the corpus of the tests
(tests/adversarial/corpus), made anew, its payloads pointed at a canary file and a canary port. Each
peer gets an environment of its own below ``.venv-peers``, made on first use; they are no
dependencies of Modelward.

Two numbers for each scanner, with 95 % Wilson intervals. "Reported": it names an issue (Modelward:
of medium severity or above). "Not called clean": it names one, or says that it could not read or
did not scan the file. For honest files both are errors.

``--quick`` takes every third file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from modelward.scan import Level, Verdict, scan_path
from modelward.scoring import wilson

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "adversarial"))

from corpus import BENIGN, HOSTILE, Canary

ROOT = Path(__file__).parents[1]
PICKLES = frozenset({"call", "stream", "file"})
"""Families that every scanner here is made for: pickles, and archives with pickles in them."""


class Answer(NamedTuple):
    """What one scanner says of one file."""

    reported: bool
    clean: bool


PEERS = {
    "picklescan": (
        ["picklescan==1.0.5"],
        """
from picklescan.scanner import scan_directory_path, scan_file_path

def answer(path):
    result = scan_directory_path(path) if os.path.isdir(path) else scan_file_path(path)
    issues = result.infected_files > 0
    return issues, not issues and not result.scan_err and result.scanned_files > 0
""",
    ),
    "modelscan": (
        ["modelscan[h5py]==0.8.8"],
        """
from pathlib import Path
from modelscan.modelscan import ModelScan

def answer(path):
    scan = ModelScan()
    result = scan.scan(Path(path))
    issues = result["summary"]["total_issues"] > 0
    scanned = result["summary"]["scanned"]["total_scanned"] > 0
    return issues, not issues and not result["errors"] and scanned
""",
    ),
}
"""What to install, and a function that gives: reported an issue, called it clean."""
RUNNER = """
import contextlib, io, json, logging, os, sys
logging.disable(logging.CRITICAL)
{function}
found = {{}}
for path in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            found[path] = answer(path)
        except Exception:
            found[path] = False, False
print("ANSWERS" + json.dumps(found))
"""


def peer(name: str, paths: list[str], home: Path) -> dict[str, Answer]:
    """Let a peer look at the files, in one process of its own environment."""
    packages, function = PEERS[name]
    folder = home / name
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        print(f"installing {', '.join(packages)}", file=sys.stderr)
        venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        subprocess.run(install, check=True, timeout=600)
        (folder / "done").touch()
    done = subprocess.run(
        [python, "-c", RUNNER.format(function=function)], input=json.dumps(paths),
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS")]
    if not answers:
        raise SystemExit(f"{name} gave no answer: {done.stderr[-500:]}")
    return {path: Answer(*found) for path, found in json.loads(answers[-1][7:]).items()}


def modelward(paths: Iterable[str]) -> dict[str, Answer]:
    """Modelward's own answers."""
    answers = {}
    for path in paths:
        report = scan_path(Path(path))
        reported = bool(report.at_least(Level.MEDIUM))
        answers[path] = Answer(reported, report.verdict is Verdict.CLEAN)
    return answers


def rate(hits: int, count: int) -> str:
    """A share with its interval."""
    found = wilson(hits, count)
    return f"{hits:4d}/{count:<4d} {hits / count:6.1%}  [{found.low:.1%}, {found.high:.1%}]"


def show(name: str, answers: dict[str, Answer], hostile: dict[str, str], benign: dict[str, str]):
    """Print one scanner's rates, and the families it misses."""
    print(f"\n{name}")
    bad = [answers[path] for path in hostile.values()]
    good = [answers[path] for path in benign.values()]
    inside = [answers[p] for file, p in hostile.items() if file.partition("-")[0] in PICKLES]
    print(f"  hostile, reported          {rate(sum(a.reported for a in bad), len(bad))}")
    print(f"  hostile, not called clean  {rate(sum(not a.clean for a in bad), len(bad))}")
    print(f"  of these pickles, reported {rate(sum(a.reported for a in inside), len(inside))}")
    print(f"  honest, reported           {rate(sum(a.reported for a in good), len(good))}")
    print(f"  honest, not called clean   {rate(sum(not a.clean for a in good), len(good))}")
    families: dict[str, list[bool]] = defaultdict(list)
    for file, path in hostile.items():
        families[file.partition("-")[0]].append(answers[path].clean)
    missed = {family: sum(clean) for family, clean in families.items() if any(clean)}
    parts = [f"{family} {count}/{len(families[family])}" for family, count in missed.items()]
    print(f"  hostile but called clean   {', '.join(parts) or 'none'}")


def main() -> None:
    """Make the corpus, ask everybody, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers")
    parser.add_argument("--without-peers", action="store_true")
    options = parser.parse_args()
    step = 3 if options.quick else 1
    with tempfile.TemporaryDirectory() as folder, Canary(Path(folder)) as canary:
        hostile, benign = {}, {}
        for name in list(HOSTILE)[::step]:
            home = Path(folder, "hostile", name)
            home.mkdir(parents=True)
            hostile[name] = str(HOSTILE[name](home, canary))
        for name in list(BENIGN)[::step]:
            home = Path(folder, "benign", name)
            home.mkdir(parents=True)
            benign[name] = str(BENIGN[name](home))
        paths = [*hostile.values(), *benign.values()]
        print(f"{len(hostile)} hostile files, {len(benign)} honest ones")
        scanners = {"Modelward": lambda: modelward(paths)}
        if not options.without_peers:
            for name in PEERS:
                scanners[name] = lambda name=name: peer(name, paths, options.peers)
        for name, ask in scanners.items():
            began = time.perf_counter()
            answers = ask()
            seconds = time.perf_counter() - began
            show(name, answers, hostile, benign)
            print(f"  payload executed: {'YES' if canary.sang else 'no'}; {seconds:.1f} s")


if __name__ == "__main__":
    main()
