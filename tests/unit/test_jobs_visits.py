"""What the page of a job reads out of the job's report."""

import time
from pathlib import Path
from typing import Any

import pytest
from report_samples import vulnerability

from modelward.domain import ReportFormat
from modelward.jobs.store import Artifact
from modelward.jobs.visits import Visits
from modelward.reports import render
from modelward.storage import BlobStore

NAME = "Vulnerability.json"


def read(folder: Path, content: bytes | None, size: int | None = None) -> Any:
    blobs = BlobStore(folder)
    nobody: Any = None
    visits = Visits(nobody, nobody, nobody, nobody, time.time, blobs=blobs)
    if content is not None:
        blobs.put_bytes(NAME, content)
    return visits._report(Artifact(NAME, NAME, len(content or b"") if size is None else size))


def test_intervals_and_warnings_come_from_the_report(tmp_path: Path) -> None:
    written = vulnerability(warnings=("the labels look odd",))
    assert read(tmp_path, render(written, ReportFormat.JSON)) == written


def test_a_report_of_an_earlier_version_has_no_warnings(tmp_path: Path) -> None:
    earlier = render(vulnerability(), ReportFormat.JSON).replace(b'"warnings": []', b'"new": 1')
    assert read(tmp_path, earlier).warnings == ()


@pytest.mark.parametrize("content", [None, b"", b"[1]", b"null", b"{", b"{}", b"\xff", b'"score"'])
def test_a_report_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    assert read(tmp_path, content) is None


def test_a_report_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    assert read(tmp_path, render(vulnerability(), ReportFormat.JSON), size=2**30) is None
