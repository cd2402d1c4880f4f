"""Downloads what a job made, unpacks it, and reads the numbers."""

import json
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from modelward.client.errors import JobFailedError, JobTimeoutError, ServiceError
from modelward.client.results import Assessment, AssessmentFiles, Job, JobStatus, Phase, Progress
from modelward.domain import (
    InvalidInputError,
    InvalidParameterError,
    ModelwardError,
    NotFoundError,
    ReportType,
    Severity,
    Stage,
    StageStatus,
)

if TYPE_CHECKING:
    from modelward.client.client import Client

__all__ = ["check_output", "collect"]

_FOLDERS = {
    ReportType.VULNERABILITY: "vulnerability_report",
    ReportType.ATTACK_SAMPLES: "attack_samples",
    ReportType.SURROGATE_MODEL: "surrogate_model",
    ReportType.DEFENSE: "defense_report",
    ReportType.DEFENSE_ARTIFACT: "defense_artifact",
}
_DEFENSE = frozenset({ReportType.DEFENSE, ReportType.DEFENSE_ARTIFACT})
_OPTIONAL = frozenset({ReportType.SURROGATE_MODEL})
"""Our extension; other services that keep the contract do not have it."""
_UNKNOWN_THERE = (InvalidInputError, InvalidParameterError, NotFoundError)
_RATES = ("original_accuracy", "extracted_accuracy", "agreement")
_MAX_ENTRIES = 200_000
_MAX_BYTES = 4 << 30
_SEVERITY_FLOORS = (
    (0.95, Severity.CRITICAL),
    (0.8, Severity.HIGH),
    (0.5, Severity.MEDIUM),
)


def check_output(output: Path) -> None:
    """Refuse an output folder that already holds a result.

    Raises:
        InvalidInputError: It does, or it is no folder.
    """
    if output.exists() and not output.is_dir():
        raise InvalidInputError(f"output: expected a folder, {output} is a file")
    taken = [name for name in _FOLDERS.values() if (output / name).exists()]
    if taken:
        raise InvalidInputError(
            f"output: expected a folder without an earlier result, {output} holds "
            f"{', '.join(taken)}; choose another folder"
        )


def collect(
    client: "Client",
    job: Job,
    output: Path,
    *,
    threshold: float,
    progress: Callable[[Progress], None] | None,
) -> Assessment:
    """Download everything into ``output``, all or nothing; see ``Client.collect``."""
    check_output(output)
    start = time.monotonic()
    report = progress or (lambda _: None)
    status = _ended(client, job)
    made = bool(status.defense_made)
    wanted = [kind for kind in _FOLDERS if made or kind not in _DEFENSE]
    problems = [f"job {job.job_id} failed: {status.current}"] if status.failed else []
    with _all_or_nothing(output) as scratch:
        fetched = {}
        for position, kind in enumerate(wanted):
            report(Progress(Phase.DOWNLOAD, kind.value, position / len(wanted), job=job))
            folder = _fetch(client, job.job_id, kind, scratch, problems)
            if folder is not None:
                fetched[kind] = folder
        numbers = _numbers(fetched, status.score, status.original_accuracy)
        for kind, folder in fetched.items():
            folder.replace(output / _FOLDERS[kind])
    due = threshold <= 0 or (threshold < 1 and numbers["score"] > threshold)
    if due and not made and not status.failed:
        problems.append(
            f"a defence was due (score {numbers['score']:.4f}, threshold {threshold:g}) "
            "but the service made none"
        )
    report(Progress(Phase.DOWNLOAD, "all files", 1.0, job=job))
    return Assessment(
        **numbers,
        job_id=job.job_id,
        model_id=job.model_id,
        monitor_link=job.monitor_link,
        defense_due=due,
        defense_made=made,
        output=output,
        files=AssessmentFiles(**{_FOLDERS[kind]: output / _FOLDERS[kind] for kind in fetched}),
        problems=tuple(problems),
        seconds=round(time.monotonic() - start, 3),
    )


def _ended(client: "Client", job: Job) -> JobStatus:
    """The last status; a job that failed after its score was measured is worth collecting."""
    status = client.status(job.job_id)
    measured = status.stages[Stage.VULNERABILITY_ENGINE] is StageStatus.COMPLETED
    if status.failed and not measured:
        raise JobFailedError(f"job {job.job_id} failed: {status.current}", status)
    if not status.finished:
        raise JobTimeoutError(
            f"expected a finished job, {job.job_id} still says {status.current!r}; "
            "call wait() first"
        )
    return status


@contextmanager
def _all_or_nothing(output: Path) -> Iterator[Path]:
    """Give a scratch folder inside ``output``; a failure leaves nothing that was not there."""
    existed = output.exists()
    output.mkdir(parents=True, exist_ok=True)
    # Inside the final place, so that the last step is a rename on one file system.
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=output))
    try:
        yield scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        if not existed:
            output.rmdir()
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def _fetch(
    client: "Client", job_id: str, kind: ReportType, scratch: Path, problems: list[str]
) -> Path | None:
    folder = scratch / _FOLDERS[kind]
    try:
        archive = client.download(job_id, kind, folder=scratch)
        if archive.suffix != ".zip":
            folder.mkdir()
            archive.replace(folder / f"{kind.value.lower()}{archive.suffix}")
            return folder
        _unpack(archive, folder)
        archive.unlink()
    except ModelwardError as error:
        if kind is ReportType.VULNERABILITY:
            raise
        # The measurement stands without this part. An extension that the service does not know
        # is nothing missing; everything else is told.
        if not (kind in _OPTIONAL and isinstance(error, _UNKNOWN_THERE)):
            problems.append(str(error))
        return None
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack with the suspicion that any archive from elsewhere deserves."""
    try:
        with zipfile.ZipFile(archive) as source:
            entries = source.infolist()
            if len(entries) > _MAX_ENTRIES or sum(e.file_size for e in entries) > _MAX_BYTES:
                raise ServiceError(f"{archive.name}: expected at most 4 GiB, it declares more")
            for entry in entries:
                parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
                link = stat.S_ISLNK(entry.external_attr >> 16)
                if link or not parts or ".." in parts or parts[0] == "/" or ":" in parts[0]:
                    raise ServiceError(
                        f"{archive.name}: expected plain relative names, got {entry.filename!r}"
                    )
            folder.mkdir()
            source.extractall(folder)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ServiceError(f"{archive.name}: expected a readable zip: {error}") from error


def _numbers(
    fetched: dict[ReportType, Path], rounded: float | None, accuracy: float | None
) -> dict[str, Any]:
    report = _read_json(fetched[ReportType.VULNERABILITY], "Vulnerability.json")
    defense = {}
    if ReportType.DEFENSE in fetched:
        defense = _read_json(fetched[ReportType.DEFENSE], "Defense.json")
    score = _find(report, "score")
    score = rounded if score is None else score
    if score is None:
        raise ServiceError("Vulnerability.json: expected a score, got none there nor in the status")
    original = _find(report, "original_accuracy", "Original Model Accuracy")
    spent = _find(report, "queries_spent")
    ranges = {name: _interval(report, name) for name in ("score", *_RATES)}
    ranges |= {f"defense_{name}": _interval(defense, name) for name in ("tpr", "fpr")}
    return {
        "intervals": {name: found for name, found in ranges.items() if found},
        "samples": _samples(report),
        "warnings": tuple(str(text) for text in _listed(report, "warnings")),
        "score": score,
        "severity": _severity(report, score),
        "original_accuracy": accuracy if original is None else original,
        "extracted_accuracy": _find(report, "extracted_accuracy", "Extracted Model Accuracy"),
        "agreement": _find(report, "agreement"),
        "queries_spent": None if spent is None else int(spent),
        "defense_tpr": _find(defense, "tpr"),
        "defense_fpr": _find(defense, "fpr"),
    }


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ServiceError(f"expected {name} in the report, got {error}") from error
    if not isinstance(content, dict):
        raise ServiceError(f"{name}: expected an object, got {type(content).__name__}")
    return content


def _parts(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the report and the objects directly in it: its numbers may be one level down."""
    return [report, *(value for value in report.values() if isinstance(value, dict))]


def _find(report: dict[str, Any], *names: str) -> float | None:
    """Find a number by name; a measured value is ``{"value": number, ...}``."""
    for name in names:
        for part in _parts(report):
            value = part.get(name)
            if isinstance(value, dict):
                value = value.get("value")
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return None


def _interval(report: dict[str, Any], name: str) -> tuple[float, float] | None:
    """The interval of a measured value; that of the score stands beside it."""
    for part in _parts(report):
        value = part.get(name)
        found = value.get("interval") if isinstance(value, dict) else part.get(f"{name}_interval")
        if isinstance(found, dict):
            low, high = found.get("low"), found.get("high")
            if isinstance(low, int | float) and isinstance(high, int | float):
                return float(low), float(high)
    return None


def _samples(report: dict[str, Any]) -> int | None:
    counts = (part["agreement"].get("n") for part in _parts(report)
              if isinstance(part.get("agreement"), dict))  # fmt: skip
    return next((count for count in counts if isinstance(count, int)), None)


def _listed(report: dict[str, Any], name: str) -> list[Any]:
    value = report.get(name)
    return value if isinstance(value, list) else []


def _severity(report: dict[str, Any], score: float) -> Severity:
    for part in _parts(report):
        try:
            return Severity(str(part.get("severity", "")).lower())
        except ValueError:
            continue
    return next((level for floor, level in _SEVERITY_FLOORS if score >= floor), Severity.LOW)
