"""Coverage-guided fuzzing of one reader of uploads: ``harness.py READER SECONDS FOLDER``.

atheris steers random bytes towards new branches of the reader. Inputs that are worth keeping are
collected in FOLDER/READER/corpus, so a later run goes on from there; a finding is written to
FOLDER/READER/crash-*, and the exit code is not 0. To replay one:

    python tests/fuzz/harness.py READER 0 FILE
"""

import signal
import sys
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent / "adversarial"))
with atheris.instrument_imports(include=["modelward"]):
    import readers

from hostile_inputs import SOUND, watched

LARGEST_INPUT = 8192
MEMORY_MEBIBYTES = 2048


def look(reader: str, content: bytes) -> None:
    """Raises what is a finding: another error than a refusal, or a hang."""
    with watched(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        readers.refused(readers.READERS[reader], content)


def seeds(folder: Path) -> None:
    """Sound files of every kind to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(SOUND):
        (folder / f"seed-{number}").write_bytes(content)


def main(reader: str, seconds: int, where: Path) -> None:
    if where.is_file():
        look(reader, where.read_bytes())
        print("no finding")
        return
    home = where / reader
    seeds(home / "corpus")
    atheris.Setup(
        [
            sys.argv[0],
            str(home / "corpus"),
            f"-max_total_time={seconds}",
            f"-max_len={LARGEST_INPUT}",
            f"-rss_limit_mb={MEMORY_MEBIBYTES}",
            "-timeout=60",  # above the watch, for what it cannot interrupt
            f"-artifact_prefix={home}/",
            "-print_final_stats=1",
        ],
        lambda content: look(reader, content),
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
