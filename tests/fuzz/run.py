"""Long fuzzing of everything that reads what others send; ``make fuzz`` starts it.

    python tests/fuzz/run.py [--seconds N] [--factor N] [--folder DIR] [--only READER ...]

First the property tests and the generated calls with ``factor`` times their examples, then atheris
on each reader for ``seconds``. Findings lie in the folder, with how to replay them; the exit code
is 1 where there is one, 2 where atheris is not installed.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
READERS = ["zip", "csv", "labels", "image", "gate", "config", "payload", "hdf5", "pickle", "scan"]
PROPERTIES = [
    TESTS / "adversarial" / "test_fuzz_readers.py",
    TESTS / "contract" / "test_openapi_generated.py",
    TESTS / "contract" / "test_hostile_requests.py",
]
GRACE_SECONDS = 120


def properties(factor: int, folder: Path) -> bool:
    """Whether the tests that generate their inputs found nothing."""
    log = folder / "properties.log"
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=0", *map(str, PROPERTIES)]
    print(f"property tests with {factor} times their examples; log: {log}", flush=True)
    with log.open("w") as output:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, check=False,
            env={**os.environ, "FUZZ_FACTOR": str(factor)},
        )  # fmt: skip
    print(log.read_text().strip().splitlines()[-1], flush=True)
    if done.returncode:
        print("  the log holds the smallest input and a line that replays it", flush=True)
    return done.returncode == 0


def fuzz(reader: str, seconds: int, folder: Path) -> bool:
    """Whether atheris found nothing in one reader."""
    log = folder / f"{reader}.log"
    command = [sys.executable, str(HERE / "harness.py"), reader, str(seconds), str(folder)]
    with log.open("w") as output:
        try:
            code = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, check=False,
                timeout=seconds + GRACE_SECONDS,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = -1
    runs = [
        line for line in log.read_text(errors="replace").splitlines() if "number_of_exec" in line
    ]
    found = sorted((folder / reader).glob("crash-*")) + sorted((folder / reader).glob("timeout-*"))
    found += sorted((folder / reader).glob("oom-*"))
    print(f"{reader}: exit code {code}; {runs[-1].split()[-1] if runs else '?'} inputs", flush=True)
    for path in found:
        print(f"  finding: {path}\n  replay:  python tests/fuzz/harness.py {reader} 0 {path}")
    if code and not found:
        print(f"  see {log}")
    return code == 0 and not found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="atheris on each reader")
    parser.add_argument("--factor", type=int, default=20, help="more examples of property tests")
    parser.add_argument("--folder", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--only", nargs="*", choices=READERS, default=None, help="no others")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris") is None:
        print('atheris is not installed; install it with pip install -e ".[fuzz]"')
        return 2
    clean = [given.factor == 0 or properties(given.factor, given.folder)]
    clean += [fuzz(reader, given.seconds, given.folder) for reader in given.only or READERS]
    print("no findings" if all(clean) else f"findings in {given.folder}")
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
