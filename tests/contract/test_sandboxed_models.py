"""Models that carry code at the edge: accepted where they can be sandboxed, refused otherwise."""

import json
import os
import sys
from typing import Any

import pytest
from live_service import Live, make_archives, make_zip, run_live

from modelward.targets.sandbox import sandbox_available

SAVED_MODEL = {"m/saved_model.pb": b"\x08\x01", "m/variables/variables.index": b""}
COMPILED = {"base_model.pyc": b"U\r\r\n" + bytes(12), "model_weight.h5": b"w"}
SOURCE = {"base_model.py": b"class BaseModel: ...", "model_weight.h5": b"w"}


def analyse(live: Live, model: dict[str, bytes], **changes: Any) -> Any:
    registered = live.register()
    live.upload_all(registered, {**make_archives(), "model": make_zip(model)})
    return live.analyse(registered["model_id"], **changes), registered["model_id"]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server without a sandbox."""
    with run_live(tmp_path_factory.mktemp("closed") / "data", sandbox_enabled="false") as live:
        yield live


@pytest.mark.parametrize(
    ("model", "changes", "name"),
    [
        (SAVED_MODEL, {}, "a SavedModel ('m/saved_model.pb')"),
        ({"a/forest.pkl": b"\x80\x04."}, {}, "a pickled model ('a/forest.pkl')"),
        (COMPILED, {"encryption_strategy": 1}, "base_model ('base_model.pyc')"),
    ],
    ids=["saved-model", "pickle", "base-model"],
)
def test_refused_without_a_sandbox(
    closed: Live, model: dict[str, bytes], changes: dict[str, Any], name: str
) -> None:
    answer, model_id = analyse(closed, model, **changes)
    assert answer.status_code == 412, answer.text
    message = answer.json()["message"]
    for words in (name, "carries code", "sandbox.enabled", "modelward doctor"):
        assert words in message
    # Nothing was created: the model is not locked and takes another upload.
    registered = closed.register()
    closed.upload_all(registered, make_archives())
    assert closed.analyse(registered["model_id"]).status_code == 200
    assert model_id not in json.dumps(closed.get("/job_detail", job_id="x").json())


def need_sandbox() -> None:
    available, reason = sandbox_available()
    if not available:
        if os.environ.get("MODELWARD_REQUIRE_SANDBOX") == "1":
            pytest.fail(f"needs a sandbox: {reason}")
        pytest.skip(f"needs a sandbox: {reason}")


def test_a_base_model_is_accepted_and_the_job_knows_the_sandbox(live: Live) -> None:
    need_sandbox()
    answer, _ = analyse(live, SOURCE, encryption_strategy="1", behaviour="sandbox")
    assert answer.status_code == 200, answer.text
    assert answer.json()["parameters"]["encryption_strategy"] == 1
    status = live.wait(answer.json()["job_id"])
    options = json.loads(status["CurrentStatus"])
    assert options["private"] == [str(live.data.absolute())]
    assert options["interpreters"]


def test_bytecode_of_another_python_is_named(live: Live) -> None:
    need_sandbox()
    answer, _ = analyse(live, COMPILED, encryption_strategy=1)
    assert answer.status_code == 400, answer.text
    for words in ("Python 3.8 with numpy", "found Python 3.", "MODELWARD_SANDBOX_INTERPRETERS"):
        assert words in answer.json()["message"]


def test_a_saved_model_without_tensorflow(tmp_path: Any) -> None:
    need_sandbox()
    with run_live(tmp_path / "data", sandbox_interpreters=sys.executable) as live:
        answer, _ = analyse(live, SAVED_MODEL)
    assert answer.status_code == 400, answer.text
    assert "make tensorflow" in answer.json()["message"]


def test_a_model_that_is_not_what_was_announced(live: Live) -> None:
    answer, _ = analyse(live, {"model.h5": b"x"}, encryption_strategy=1)
    assert answer.status_code == 400, answer.text
    assert "one base_model.pyc" in answer.json()["message"]
