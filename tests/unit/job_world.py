"""A data folder with organisations, models and jobs, without a server."""

from pathlib import Path
from typing import Any

from modelward.domain import AnalysisType, Stage, TaskType, UploadDialect
from modelward.jobs.database import Database
from modelward.jobs.deletion import Removed, delete_model
from modelward.jobs.registrations import Registrations, Upload
from modelward.jobs.store import Artifact, JobStore
from modelward.jobs.tenants import Tenants
from modelward.settings import Settings
from modelward.storage import BlobStore

STAGES = (
    Stage.MODEL_EXPLORATION,
    Stage.SANITY_CHECK,
    Stage.QUERY_GENERATOR,
    Stage.VULNERABILITY_ENGINE,
    Stage.DEFENSE_REPORT,
)
CONFIG = {"input_shape": [8, 8, 1], "number_of_classes": 3}


class JobWorld:
    """Everything that a service keeps, under a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.data = folder
        self.database = Database(folder)
        self.database.migrate()
        self.blobs = BlobStore(folder / "blobs")
        self.tenants = Tenants(self.database, Settings(data=folder), lambda: self.now)
        self.registrations = Registrations(self.database, lambda: self.now)
        self.jobs = JobStore(self.database, lambda: self.now)
        self.organisation = self.new_organisation()
        self.model = self.new_model()

    def new_organisation(self) -> int:
        return self.tenants.organisation(self.tenants.create("a").organisation_id)

    def new_model(self, organisation: int | None = None, *, slots: tuple[str, ...] = ()) -> str:
        model = self.registrations.add(
            organisation or self.organisation,
            TaskType.IMAGE_CLASSIFICATION,
            AnalysisType.EXTRACTION,
            UploadDialect.PUT,
        ).id
        for slot in slots:
            blob = f"inputs/{model}/{slot}/1.zip"
            self.blobs.put_bytes(blob, slot.encode())
            self.registrations.record(
                model, Upload(slot, blob, len(slot)), organisation or self.organisation
            )
        return model

    def delete(self, model: str) -> Removed:
        return delete_model(
            self.database, self.blobs, self.data, model,
            organisation=self.organisation, now=self.now,
        )  # fmt: skip

    def add(self, name: str, **options: Any) -> str:
        self.now += 1
        arguments: dict[str, Any] = {
            "organisation": self.organisation,
            "model_id": self.model,
            "payload": {},
            "inputs": {},
        } | options
        return self.jobs.add(
            job_id=name,
            pair=("image_classification", "extraction"),
            config=CONFIG,
            stages=STAGES,
            **arguments,
        )

    def finish(self, name: str, *, files: tuple[str, ...] = ("Vulnerability.json",)) -> None:
        """Let a waiting job end well, with some files."""
        job = self.jobs.claim()
        assert job and job.id == name
        for file in files:
            blob = f"artifacts/{name}/{file}"
            size = self.blobs.put_bytes(blob, f"{name} {file}".encode())
            self.jobs.add_artifact(name, Artifact(file, blob, size))
        self.jobs.succeed(name, "Analysis completed")
