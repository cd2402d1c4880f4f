"""Honest models in the sandbox give the answers that they give outside."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sandbox_need import IMAGES, LABELS, OWN, WEIGHTS, base_model, need_sandbox, opened

from modelward.domain import Access, AssessmentError, SandboxOptions
from modelward.targets import open_sandboxed
from modelward.targets.sandbox import choose_interpreters
from modelward.targets.sandbox.interpreters import inspect_interpreter, python_of_magic
from modelward.targets.sandbox.probe import mounts_proc
from modelward.targets.sandbox.process import SandboxProcess


@pytest.fixture(autouse=True)
def _sandbox():
    need_sandbox()


@pytest.mark.parametrize(
    "layout",
    [{}, {"inside": "deep/er"}, {"inside": "m", "weights": "m/w.npy"}, {"compiled": False}],
    ids=["top", "names-beside", "names-from-the-top", "source"],
)
def test_a_base_model_gives_labels(tmp_path, layout):
    with opened(base_model(tmp_path, **layout)) as model:
        assert model.offers is Access.LABELS
        answers = model.predict(IMAGES)
        assert answers.argmax(1).tolist() == LABELS.tolist()
        assert set(np.unique(answers)) == {0.0, 1.0}
        profile = model.profile("Original", repeats=3)
    assert profile.parameters is None
    assert profile.layers == ()
    assert profile.hidden == "not visible: runs in the sandbox"
    assert profile.inference_ms > 0
    assert any("class numbers" in note for note in model.notes)
    with pytest.raises(AssessmentError, match="this one was closed"):
        model.predict(IMAGES)


def test_a_folder_may_be_named_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exchange = base_model(tmp_path)
    relative = replace(exchange, folder=exchange.folder.relative_to(tmp_path))
    with opened(relative) as model:
        assert model.predict(IMAGES).argmax(1).tolist() == LABELS.tolist()


def test_a_sandbox_that_does_not_start_is_not_blamed_on_the_model(tmp_path):
    exchange = base_model(tmp_path)
    gone = replace(exchange, folder=tmp_path / "gone")
    with pytest.raises(AssessmentError, match=r"sandbox: expected it to start; .*modelward doctor"):
        SandboxProcess(
            inspect_interpreter(Path(sys.executable)), gone.folder, {"kind": "base_model"}, OWN
        )


def test_a_base_model_may_give_probabilities(tmp_path):
    exchange = base_model(tmp_path, answer="np.exp(scores) / np.exp(scores).sum(1)[:, None]")
    with opened(exchange) as model:
        assert model.offers is Access.PROBABILITIES
        scores = np.exp(IMAGES.reshape(300, -1).astype(np.float64) @ WEIGHTS)
        expected = scores / scores.sum(1, keepdims=True)
        np.testing.assert_allclose(model.predict(IMAGES), expected, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_pixels_arrive_in_the_range_that_was_asked_for(tmp_path, normalize):
    exchange = base_model(tmp_path, answer="(X.reshape(len(X), -1).max(1) > 1).astype(int)")
    with opened(exchange, normalize_data=normalize) as model:
        labels = model.predict(IMAGES).argmax(1)
    assert set(labels) == ({0} if normalize else {1})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("scores.argmax(1) + 1", "class numbers from 0 to 2, .*got 3; correct number_of_classes"),
        ("scores.argmax(1)[1:]", r"8 rows of 1 to 10000 numbers; its answer has the shape \(7,\)"),
        ("[str(n) for n in scores.argmax(1)]", "TypeError: expected numbers as predictions"),
        ("scores[:, :2]", "expected 3 outputs, as number_of_classes says; got 2"),
        ("scores * np.nan", "NaN or infinity for 8 of 8 images"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("exit(3)", "SystemExit: 3"),
        ("__import__('os')._exit(3)", "ended in the sandbox: its process ended with code 3"),
        ("__import__('nowhere')", "packages in the interpreter .*No module named 'nowhere'"),
    ],
)
def test_answers_that_do_not_fit(tmp_path, answer, message):
    with pytest.raises(AssessmentError, match=message):
        open_sandboxed(
            base_model(tmp_path, answer=answer),
            input_shape=(4, 5, 1),
            classes=3,
            normalize_data=True,
            color_space=None,
            options=OWN,
        )


@pytest.mark.parametrize(
    ("magic", "said"),
    [
        (3413, r"Python 3\.8 with numpy, because that compiled base_model.pyc"),
        (62211, r"Python 2\.x with numpy"),
        (3999, r"an unknown Python version \(magic number 3999\)"),
    ],
)
def test_bytecode_of_another_python(magic, said):
    raw = magic.to_bytes(2, "little") + b"\r\n"
    found = f"found Python {sys.version.split()[0]} at "
    with pytest.raises(AssessmentError, match=rf"{said}.*sandbox.interpreters.*{found}"):
        choose_interpreters("base_model", raw, OWN)


def test_the_magic_number_of_this_python():
    ours = importlib.util.MAGIC_NUMBER
    assert python_of_magic(ours) == f"Python {sys.version_info.major}.{sys.version_info.minor}"
    assert choose_interpreters("base_model", ours, OWN)[0].magic == ours
    assert "no compiled Python file" in python_of_magic(b"PK\x03\x04")


def other_pythons() -> list[Path]:
    places = Path.home() / ".pyenv" / "versions"
    found = [places / name / "bin" / "python" for name in sorted(map(str, places.glob("3.*")))]
    return [one for one in found if int(one.parts[-3].split(".")[1]) >= 8 and one.exists()]


@pytest.mark.parametrize("version", ["3.8", "3.10", "3.12", "3.13"])
def test_the_program_inside_runs_under_other_pythons(version):
    fitting = [one for one in other_pythons() if one.parts[-3].startswith(version + ".")]
    if not fitting:
        pytest.skip(f"needs Python {version} under ~/.pyenv")
    interpreter = inspect_interpreter(fitting[0])
    assert interpreter.version.startswith(version + ".")
    assert python_of_magic(interpreter.magic) == f"Python {version}"
    with SandboxProcess(
        interpreter, None, {"kind": "probe"}, OWN, proc=mounts_proc(OWN)
    ) as process:
        assert process.hello["uid"] == 65534
    if "numpy" not in interpreter.modules:
        options = SandboxOptions(interpreters=(fitting[0],))
        with pytest.raises(AssessmentError, match=r"Python 3\.\d+\.\d+ at .*\(without numpy\)"):
            choose_interpreters("base_model", interpreter.magic, options)


def test_an_interpreter_that_is_missing_is_named(tmp_path):
    options = SandboxOptions(interpreters=(tmp_path / "python",))
    with pytest.raises(AssessmentError, match=r"expected a Python interpreter at .*python; got No"):
        choose_interpreters("pickle", b"", options)


def test_a_private_folder_is_never_bound():
    options = OWN.model_copy(update={"private": (Path(np.__file__).parent,)})
    with pytest.raises(AssessmentError, match="outside of what models may see"):
        SandboxProcess(inspect_interpreter(Path(sys.executable)), None, {"kind": "probe"}, options)


def test_without_a_proc_of_its_own():
    own = inspect_interpreter(Path(sys.executable))
    with SandboxProcess(own, None, {"kind": "probe"}, OWN, proc=False) as process:
        assert process.hello["processes"] == []
        assert process.hello["interfaces"] == ["lo"]


def test_a_sandbox_outlives_copies_and_ends_with_the_last(tmp_path):
    import gc

    model = open_sandboxed(
        base_model(tmp_path), input_shape=(4, 5, 1), classes=3, normalize_data=True,
        color_space=None, options=OWN,
    )  # fmt: skip
    other = model.with_color_space("gray")
    process = model._process._process
    del model
    gc.collect()
    assert other.predict(IMAGES[:3]).shape == (3, 3)
    del other
    gc.collect()
    assert process.wait(10) != 0
