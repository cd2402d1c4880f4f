"""The real extraction pipeline gives the same result with and without dying on the way."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from digits_model import digits_archives

from modelward.domain import (
    AnalysisType,
    Stage,
    TaskType,
    UploadDialect,
    parse_image_extraction,
    sample_payload,
)
from modelward.jobs.database import Database
from modelward.jobs.gates import find_gate
from modelward.jobs.records import JobState
from modelward.jobs.registrations import Registrations, Upload
from modelward.jobs.store import JobStore
from modelward.jobs.tenants import Tenants
from modelward.settings import Settings
from modelward.storage import BlobStore

HERE = Path(__file__).parent
JOB = "job-0000000000"
PAIR = (TaskType.IMAGE_CLASSIFICATION, AnalysisType.EXTRACTION)
_TIMES = {
    "created", "stage_seconds", "inference_ms", "detector_ms", "model_ms", "ratio", "model_id"
}  # fmt: skip


class Folder:
    """A data folder with one job in it, whose workers the test starts by hand."""

    def __init__(self, data: Path, archives: dict[str, bytes], **changes: Any) -> None:
        self.data, self.blobs = data, BlobStore(data / "blobs")
        self.machine = data.with_name(data.name + "-tmp")
        self.machine.mkdir()
        database = Database(data)
        database.migrate()
        tenants = Tenants(database, Settings(data=data), lambda: 0.0)
        self.organisation = organisation = tenants.organisation(tenants.create("a").organisation_id)
        registrations = Registrations(database, lambda: 0.0)
        model = registrations.add(organisation, *PAIR, UploadDialect.PUT).id
        for slot, content in archives.items():
            size = self.blobs.put_bytes(f"inputs/{model}/{slot}/1.zip", content)
            upload = Upload(slot, f"inputs/{model}/{slot}/1.zip", size)
            registrations.record(model, upload, organisation)
        payload = sample_payload(*PAIR, UploadDialect.PUT) | {
            "input_dimensions": "(8, 8, 1)",
            "number_of_classes": "10",
            "number_of_attack_queries": 20,
            "seed": 3,
            **changes,
        }
        self.jobs = JobStore(database, lambda: 0.0)
        self.jobs.add(
            job_id=JOB,
            organisation=organisation,
            model_id=model,
            pair=(PAIR[0].value, PAIR[1].value),
            payload=payload,
            config=parse_image_extraction(payload).model_dump(mode="json"),
            inputs={slot: f"inputs/{model}/{slot}/1.zip" for slot in archives},
            stages=find_gate(*PAIR).stages,
        )

    def work(self, die_after: str = "") -> int:
        """Run one worker; its exit code."""
        job = self.jobs.claim()
        assert job
        done = subprocess.run(
            [
                *(sys.executable, str(HERE / "mortal_worker.py"), "--data", str(self.data)),
                *("--job", JOB, "--attempt", str(job.attempts), "--checkpoint-seconds", "0"),
            ],
            # one thread: quick where others use the machine too
            env={
                **os.environ,
                "MORTAL_AFTER": die_after,
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(self.machine),
            },
            capture_output=True,
            check=False,
            timeout=300,
        )
        self.log = done.stderr.decode()
        if done.returncode:
            self.jobs.requeue(JOB, "died", counts=True)
        return done.returncode

    def artifact(self, name: str) -> bytes:
        return self.blobs.read(self.jobs.artifacts(JOB, self.organisation)[name].blob)

    def members(self, name: str) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(self.artifact(name))) as archive:
            return {member: archive.read(member) for member in archive.namelist()}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k.lower() not in _TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def _weights(content: bytes) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(io.BytesIO(content)) as file:
        file["model_weights"].visititems(
            lambda name, item: found.__setitem__(name, item[()]) if hasattr(item, "shape") else None
        )
    return found


def _assert_same(one: Folder, other: Folder) -> None:
    first, second = one.jobs.get_unscoped(JOB), other.jobs.get_unscoped(JOB)
    assert first.state is second.state is JobState.SUCCEEDED
    assert (first.score, first.original_accuracy) == (second.score, second.original_accuracy)
    assert set(one.jobs.artifacts(JOB, one.organisation)) == set(
        other.jobs.artifacts(JOB, other.organisation)
    )
    for name in ("Vulnerability.json", "Defense.json"):
        reports = [_timeless(json.loads(folder.artifact(name))) for folder in (one, other)]
        assert reports[0] == reports[1]
    assert one.members("Attack_samples.zip") == other.members("Attack_samples.zip")
    for name, least in (("Surrogate_model.zip", 3), ("Defense_artifact.zip", 1)):
        files, others = one.members(name), other.members(name)
        assert set(files) == set(others)
        networks = [member for member in files if member.endswith(".h5")]
        assert len(networks) >= least
        for member in networks:
            weights, same = _weights(files[member]), _weights(others[member])
            assert set(weights) == set(same) and weights
            for key, value in weights.items():
                np.testing.assert_array_equal(value, same[key], err_msg=f"{member} {key}")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return digits_archives(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def undisturbed(digits: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("undisturbed"), digits)
    assert folder.work() == 0, folder.log
    return folder


@pytest.mark.slow
def test_same_result_after_a_death_at_every_checkpoint(
    digits: dict[str, bytes], undisturbed: Folder, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "data", digits)
    stages = list(find_gate(*PAIR).stages)
    for after in (
        f"{stages[1]}:1",
        "attack:1",
        f"{stages[2]}:1",
        f"{stages[3]}:1",
    ):
        assert folder.work(die_after=after) == -9, folder.log
    seconds = folder.jobs.get_unscoped(JOB).stage_seconds
    assert folder.work() == 0, folder.log
    taken = [stage for stage in stages if f"stage {stage.value} is taken over" in folder.log]
    assert taken == stages[:4]
    _assert_same(undisturbed, folder)
    # the time that earlier workers needed stays
    assert (
        seconds[Stage.QUERY_GENERATOR]
        == folder.jobs.get_unscoped(JOB).stage_seconds["QueryGenerator_Status"]
    )
    assert not (folder.data / "work" / JOB).exists()
    assert not list(folder.machine.iterdir())  # nothing of a model stays where nobody looks
