"""One quick reference run for all tests that look at its results."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_demo import COMMAND, environment

from modelward.siem_sink import LocalSink


@pytest.fixture(scope="session")
def quick_sink() -> Iterator[LocalSink]:
    """The SIEM that the quick run reports to."""
    with LocalSink() as sink:
        yield sink


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory: pytest.TempPathFactory, quick_sink: LocalSink) -> tuple[Path, str]:
    """Folder of a finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    siem = ["--azure-log-endpoint", quick_sink.url, "--splunk-url", quick_sink.url]
    done = subprocess.run(
        [*COMMAND, "--output", str(folder), "--seed", "7", *siem],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
        env=environment()
        | {
            "MODELWARD_AZURE_LOG_CUSTOMER_ID": quick_sink.workspace_id,
            "MODELWARD_AZURE_LOG_SHARED_KEY": quick_sink.shared_key,
            "MODELWARD_SPLUNK_AUTHORIZATION": quick_sink.token,
        },
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done.stdout + done.stderr
