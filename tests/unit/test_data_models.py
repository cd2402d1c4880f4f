"""The model in an uploaded archive: told by names and first bytes, unpacked without more."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from modelward.data import ModelKind, extract_model
from modelward.data import model_in as found_in
from modelward.domain import InvalidInputError

Files = dict[str, bytes]
Upload = Callable[[Files], Path]


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    def make(files: Files) -> Path:
        path = tmp_path / "model.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path

    return make


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"m.onnx": b""}, r"ONNX model \('m.onnx'\), which is not supported yet"),
        ({"frozen.pb": b""}, r"graph that is no SavedModel \('frozen.pb'\).*not supported yet"),
        ({"base_model.pyc": b"", "w.bin": b""}, "'base_model.pyc', which encryption_strategy 1"),
        ({"a/saved_model.pb": b"", "b/saved_model.pb": b""}, "one SavedModel.*got 'a/saved_model"),
        ({"a.pkl": b"", "b.joblib": b""}, "one pickled model.*got 'a.pkl', 'b.joblib'"),
        ({"a.h5": b"", "b.keras": b""}, "expected one .*got 'a.h5', 'b.keras'"),
        ({"a.weights.h5": b""}, "got weights only"),
        ({"readme.txt": b""}, "expected one .h5 or .keras file.* in the archive; got 'readme.txt'"),
    ],
)  # fmt: skip
def test_model_formats(upload: Upload, model: Files, message: str):
    with pytest.raises(InvalidInputError, match=message):
        found_in(upload(model))


def test_extract_model(upload: Upload, tmp_path: Path):
    files = upload({"a/b/My Model.H5": b"content", "readme.txt": b"x", "a/._b.h5": b"x"})
    unpacked = extract_model(files, tmp_path)
    assert unpacked.path == tmp_path / "model.h5"
    assert unpacked.path.read_bytes() == b"content"
    assert not unpacked.found.carries_code
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".zip"] == ["model.h5"]


@pytest.mark.parametrize(
    ("model", "kind", "written", "inside"),
    [
        ({"d/m/saved_model.pb": b"s", "d/m/variables/v.index": b"v", "d/other": b"o"},
         ModelKind.SAVED_MODEL, {"saved_model.pb", "variables/v.index"}, ""),
        ({"saved_model.pb": b"s", "variables/v.index": b"v"},
         ModelKind.SAVED_MODEL, {"saved_model.pb", "variables/v.index"}, ""),
        ({"sub/Model.PKL": b"p", "readme": b"r"}, ModelKind.PICKLE, {"model.pkl"}, "model.pkl"),
        ({"m/base_model.pyc": b"\xa7\r\r\nrest", "m/w.h5": b"w", "x.txt": b"x"},
         ModelKind.BASE_MODEL, {"m/base_model.pyc", "m/w.h5", "x.txt"}, "m"),
    ],
)  # fmt: skip
def test_models_that_carry_code(  # noqa: PLR0917
    upload: Upload, tmp_path: Path, model: Files, kind: ModelKind, written: set[str], inside: str
):
    dest = tmp_path / "dest"
    dest.mkdir()
    unpacked = extract_model(upload(model), dest, base_model=kind is ModelKind.BASE_MODEL)
    assert unpacked.found.kind is kind
    assert unpacked.found.carries_code
    assert unpacked.inside == inside
    found = {path.relative_to(dest).as_posix() for path in dest.rglob("*") if path.is_file()}
    assert found == written
    magic = b"\xa7\r\r\n" if kind is ModelKind.BASE_MODEL else b""
    assert unpacked.found.magic == magic


def test_source_goes_before_compiled_code_in_one_folder(upload: Upload):
    files = upload({"base_model.pyc": b"abcd", "base_model.py": b"", "w.h5": b""})
    found = found_in(files, base_model=True)
    assert found.entry is not None
    assert found.entry.name == "base_model.py"
    assert found.magic == b""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"m.h5": b""}, "expected one base_model.pyc .*encryption_strategy 1 says; got 'm.h5'"),
        ({"a/base_model.py": b"", "b/base_model.pyc": b""}, "got 'a/base_model.py', 'b/base_mod"),
    ],
)
def test_encryption_strategy_wants_a_base_model(upload: Upload, model: Files, message: str):
    with pytest.raises(InvalidInputError, match=message):
        found_in(upload(model), base_model=True)


def test_a_name_that_is_a_file_and_a_folder(upload: Upload, tmp_path: Path):
    files = upload({"base_model.py": b"", "a": b"", "a/b": b""})
    with pytest.raises(InvalidInputError, match=r"'a/b' to be a file or a folder; .* holds both"):
        extract_model(files, tmp_path, base_model=True)


def test_a_keras_file_uploaded_as_it_is(upload: Upload, tmp_path: Path):
    parts = {"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": b"x"}
    files = upload(parts)
    unpacked = extract_model(files, tmp_path)
    assert unpacked.path == tmp_path / "model.keras"
    assert unpacked.path.read_bytes() == files.read_bytes()


@pytest.mark.parametrize(
    "name",
    ["m.h5", "m.hdf5", "m.keras", "m/saved_model.pb", "m.pkl", "m.pickle", "m.joblib",
     "base_model.pyc", "base_model.py"],
)  # fmt: skip
def test_the_page_about_uploads_names_what_is_accepted(upload: Upload, name: str) -> None:
    found_in(upload({name: b"x" * 16}), base_model=name.startswith("base_model"))
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    uploads = page.partition("### Uploads")[2].partition("###")[0]
    assert f"`{name.removeprefix('m').removeprefix('/')}`" in uploads
