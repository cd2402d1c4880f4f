"""The defence of a finished job, alone in a folder, delivers its events to Sentinel and Splunk."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelward import __version__
from modelward.siem_sink import LocalSink

ROOT = Path(__file__).resolve().parents[2]
TENSORFLOW = Path(os.environ.get("MODELWARD_TF_PYTHON", ROOT / ".venv-tf" / "bin" / "python"))
OTHER = {"torch": "tensorflow", "tensorflow": "torch"}

SCRIPT = """
import json, os, sys

class Without:
    # A finder that does not find what is not installed beside the artifact.
    names = {{"modelward", "{other}", "azure", "fastapi", "httpx", "mlflow", "PIL", "pydantic",
              "sklearn", "sqlalchemy", "starlette", "tf_keras", "typer", "uvicorn"}}

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import keras
import numpy as np
assert keras.backend.backend() == "{backend}"
from predict import AISDefenseModel

attacks, digits = np.load(os.environ["ATTACKS"]), np.load(os.environ["DIGITS"])
model = keras.models.load_model("defense_model.h5")
# Sentinel's credentials come from the environment, Splunk's from the call.
with AISDefenseModel(
    model,
    splunk_url=os.environ["SINK"],
    authorization=os.environ["TOKEN"],
    azure_log_endpoint=os.environ["SINK"],
) as defense:
    labels, probability = defense.predict(attacks, source="203.0.113.7")
    genuine, _ = defense.predict(digits)
    delivered = defense.flush(60)
    stats = defense.stats()
assert not Without.names & {{name.partition(".")[0] for name in sys.modules}}
print("RESULT" + json.dumps({{
    "labels": labels.tolist(),
    "probability": probability.astype(float).tolist(),
    "genuine": genuine.tolist(),
    "delivered": delivered,
    "stats": stats,
}}))
"""


@pytest.fixture(scope="module")
def artifact(quick_run, tmp_path_factory):
    """The artifact and images to ask about: attack samples as decoded, digits as a model gets."""
    results = quick_run[0] / "results"
    place = tmp_path_factory.mktemp("images")
    files = sorted((results / "attack_samples").rglob("*.png"))[:40]
    np.save(place / "attacks.npy", np.stack([np.asarray(Image.open(f)) for f in files])[..., None])
    from modelward.demo import load_digits, scaled

    np.save(place / "digits.npy", scaled(load_digits(7).test.images[:40]))
    return results / "defense_artifact", place


def run(python, backend, artifact, folder, sink):
    source, images = artifact
    shutil.copytree(source, folder / "deployed")
    done = subprocess.run(
        [str(python), "-c", SCRIPT.format(backend=backend, other=OTHER[backend])],
        cwd=folder / "deployed",
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "ATTACKS": str(images / "attacks.npy"),
            "DIGITS": str(images / "digits.npy"),
            "SINK": sink.url,
            "TOKEN": sink.token,
            "MODELWARD_AZURE_LOG_CUSTOMER_ID": sink.workspace_id,
            "MODELWARD_AZURE_LOG_SHARED_KEY": sink.shared_key,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stdout[-1000:] + done.stderr[-3000:]
    assert sink.token not in done.stderr and sink.shared_key not in done.stderr
    return json.loads(lines[0].removeprefix("RESULT"))


def check(answer, artifact, folder, sink, job_id):
    facts = json.loads((artifact[0] / "detector_info.json").read_text())
    flagged = [p for p, label in zip(answer["probability"], answer["labels"], strict=True)
               if label == "attack"]  # fmt: skip
    alarms = answer["genuine"].count("attack")
    assert len(flagged) > len(answer["labels"]) / 2
    assert alarms < len(answer["genuine"]) / 2
    assert answer["delivered"] is True
    total = len(flagged) + alarms
    for name in ("sentinel", "splunk"):
        assert answer["stats"]["sinks"][name]["delivered"] == total
    assert len(sink.sentinel_events) == len(sink.splunk_events) == total
    assert sink.duplicates == 0

    model_id = facts["model_id"]
    assert facts["job_id"] == job_id
    for event, asset in (
        (sink.splunk_events[0], model_id),
        # The Data Collector would give a column of bare GUIDs another suffix.
        (sink.sentinel_events[0], f"id-{model_id}"),
    ):
        shown = round(flagged[0], 2)
        assert re.fullmatch(r"evt-[0-9a-f]{32}-0", event.pop("event_id"))
        moment = datetime.fromisoformat(event.pop("timestamp"))
        assert moment.utcoffset().total_seconds() == 0
        assert event == {
            "RawMessage": "Image Classification AI Model Extraction Attack Identified",
            "service_name": "image_classification_extraction_defense_engine",
            "asset_id": asset,
            "source_name": "203.0.113.7",
            "probability": shown,
            "attack_name": "model_attack",
            "SuspiciousLevel": "high suspicious attack"
            if shown >= 0.85
            else "low suspicious attack" if shown >= 0.7 else "",
            "Computer": socket.gethostname(),
            "model_id": asset,
            "job_id": job_id,
            "defense_version": __version__,
            "rows": 1,
        }  # fmt: skip
    assert [event["probability"] for event in sink.splunk_events[: len(flagged)]] == [
        round(p, 2) for p in flagged
    ]
    spools = list((folder / ".local" / "state" / "modelward").glob("siem-*.db"))
    assert [path.name for path in spools] == [f"siem-{model_id}.db"]


def job_of(quick_run):
    return json.loads((quick_run[0] / "summary.json").read_text())["job_id"]


@pytest.mark.slow
def test_beside_torch(quick_run, artifact, tmp_path):
    with LocalSink() as sink:
        answer = run(sys.executable, "torch", artifact, tmp_path, sink)
        check(answer, artifact, tmp_path, sink, job_of(quick_run))


@pytest.mark.slow
@pytest.mark.tensorflow
def test_beside_tensorflow(quick_run, artifact, tmp_path):
    if not TENSORFLOW.exists():
        reason = f"needs the TensorFlow environment at {TENSORFLOW} (make tensorflow)"
        if os.environ.get("MODELWARD_REQUIRE_ENVS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with LocalSink() as sink:
        answer = run(TENSORFLOW, "tensorflow", artifact, tmp_path, sink)
        check(answer, artifact, tmp_path, sink, job_of(quick_run))
