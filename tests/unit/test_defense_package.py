"""The artifact: rebuilt from its source, imported in every way with numpy alone."""

import ast
import json
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
from defense_samples import digits_detector

import modelward
from modelward.defense import assemble as assembling
from modelward.defense import predict_source, write_artifact
from modelward.defense.assemble import ARTIFACT_PARTS
from modelward.domain import ModelwardError

PARTS = Path(modelward.__file__).parent


def test_predict_py_is_made_of_the_sender_and_the_runtime():
    source = predict_source("9.9.9", {"model_id": "m-1"})
    assert source.startswith("# Written by Modelward 9.9.9 (Apache-2.0).")
    own = {"AISDefenseModel", "Delivery", "Spool", "DataCollector", "SplunkCollector"}
    assert own <= {node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    assert "modelward.siem import" not in source
    assert "siem.delivery import" not in source
    assert not re.search(r"^(from|import) modelward", source, re.MULTILINE)
    # Every line of every part that is neither docstring, import nor __all__ is there, in order.
    for package, file in ARTIFACT_PARTS:
        text = PARTS.joinpath(*package.split(".")[1:], file).read_text()
        last = ast.get_source_segment(text, ast.parse(text).body[-1])
        assert last in source, file


def test_predict_py_carries_its_origin():
    space: dict[str, object] = {"__name__": "predict"}
    exec(compile(predict_source("9.9.9", {"model_id": "m-1", "job_id": "j-1"}), "p", "exec"), space)
    assert space["ARTIFACT"] == {"model_id": "m-1", "job_id": "j-1", "version": "9.9.9"}


def test_names_of_the_parts_do_not_collide(monkeypatch):
    monkeypatch.setattr(
        assembling, "ARTIFACT_PARTS", (*ARTIFACT_PARTS, ("modelward.siem", "sentinel_logs.py"))
    )
    monkeypatch.setattr(
        assembling, "_defined", lambda tree: {"same"} if len(tree.body) > 3 else set()
    )
    with pytest.raises(ModelwardError, match="both define same; rename one"):
        assembling.assemble("# h", {})


CHECK = """
import importlib, importlib.abc, importlib.util, sys

class OnlyNumpy(importlib.abc.MetaPathFinder):
    allowed = set(sys.stdlib_module_names) | {"numpy", "predict", "reports"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in self.allowed:
            raise ImportError(f"{name} is not available here")
sys.meta_path.insert(0, OnlyNumpy())
sys.path.insert(0, ROOT)

import numpy as np
class Model:
    input_shape = (None, 2, 2, 1)
    def predict(self, x, verbose=1):
        return np.stack([1 - x[:, 0, 0, 0], x[:, 0, 0, 0]], 1)

from reports.defense_artifact import predict as by_package
path = ROOT + "/reports/defense_artifact/predict.py"
spec = importlib.util.spec_from_file_location("anything", path)
by_file = importlib.util.module_from_spec(spec); spec.loader.exec_module(by_file)
sys.path.insert(0, ROOT + "/reports/defense_artifact")
import predict as bare
assert bare is not by_package
for module in (by_package, by_file, bare):
    defense = module.AISDefenseModel(Model())
    x = np.zeros((2, 2, 2, 1)); x[1] = 255.0
    label, prob = defense.predict(x)
    assert label.tolist() == ["not-attack", "attack"], label
    assert prob.tolist() == [1.0, 1.0], prob
assert "keras" not in sys.modules and "torch" not in sys.modules
print("fine")
"""


def test_predict_py_is_imported_in_every_way_with_numpy_alone(tmp_path):
    folder = tmp_path / "reports" / "defense_artifact"
    folder.mkdir(parents=True)
    (folder / "predict.py").write_text(predict_source("0"))
    script = f"ROOT = {str(tmp_path)!r}\n" + textwrap.dedent(CHECK)
    run = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert run.stdout.strip() == "fine", run.stderr


class TestArtifact:
    @pytest.fixture(scope="class")
    @staticmethod
    def artifact(tmp_path_factory):
        folder = tmp_path_factory.mktemp("artifact")
        for name in ("one.zip", "two.zip"):
            write_artifact(digits_detector(), folder / name, info={"job_id": "job-1"})
        return folder / "one.zip"

    def test_members_lie_at_the_root(self, artifact):
        with zipfile.ZipFile(artifact) as file:
            assert file.namelist() == [
                "predict.py",
                "defense_model.h5",
                "README.txt",
                "detector_info.json",
            ]

    def test_the_same_result_gives_the_same_bytes(self, artifact):
        assert artifact.read_bytes() == artifact.with_name("two.zip").read_bytes()

    def test_nothing_else_is_left_beside_the_zip(self, artifact):
        assert sorted(p.name for p in artifact.parent.iterdir()) == ["one.zip", "two.zip"]

    def test_info_and_readme_carry_the_measurements(self, artifact):
        with zipfile.ZipFile(artifact) as file:
            info = json.loads(file.read("detector_info.json"))
            readme = file.read("README.txt").decode()
        assert info["job_id"] == "job-1"
        assert info["modelward_version"] == modelward.__version__
        assert info["detector"]["tpr"]["value"] == digits_detector().evaluation.tpr.value
        assert "(n, 8, 8, 1)" in readme
        assert "What it cannot see" in readme

    def test_the_packed_pair_decides_as_the_detector(self, artifact, tmp_path):
        import os

        os.environ.setdefault("KERAS_BACKEND", "torch")
        import keras

        with zipfile.ZipFile(artifact) as file:
            file.extractall(tmp_path)
        space: dict[str, object] = {"__name__": "predict"}
        exec((tmp_path / "predict.py").read_text(), space)
        model = keras.models.load_model(tmp_path / "defense_model.h5")
        images = np.random.default_rng(3).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
        images[20:] = 0
        label, probability = space["AISDefenseModel"](model).predict(images)
        attack = digits_detector().scores(images) > 0
        assert (label == "attack").tolist() == attack.tolist()
        assert probability.min() >= 0.5
        again, _ = space["AISDefenseModel"](model).predict(images / 255.0)
        assert again.tolist() == label.tolist()
