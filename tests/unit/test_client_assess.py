import io
import json
import zipfile

import pytest
from client_fakes import KEY, NO_WAIT, ORG, FakeService, png, sample_files, zip_of

from modelward.client import Client, JobFailedError, Phase, ServiceError
from modelward.client.archives import as_zip
from modelward.client.inference import count_classes, image_shape, read_image_header
from modelward.domain import InvalidInputError, InvalidParameterError, NotFoundError, Severity


def run(service, tmp_path, **options):
    files = sample_files(tmp_path / "in") if "model" not in options else {}
    with Client("http://fake.test", ORG, KEY, transport=service.transport, retries=NO_WAIT) as it:
        return it.assess(**{**files, "output": tmp_path / "out", "poll_seconds": 0.0, **options})


def test_the_whole_flow(tmp_path):
    service, seen = FakeService(score=0.9), []
    result = run(service, tmp_path, queries=200, threshold=0.5, progress=seen.append)
    assert result.score == 0.9
    assert result.severity is Severity.HIGH
    assert (result.original_accuracy, result.extracted_accuracy, result.agreement) == (
        0.99,
        0.97,
        0.975,
    )
    assert result.queries_spent == 200
    assert (result.defense_made, result.defense_tpr, result.defense_fpr) == (True, 0.995, 0.01)
    assert result.complete
    names = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*")
    )
    assert "vulnerability_report/Vulnerability.json" in names
    assert "defense_artifact/predict.py" in names
    assert "surrogate_model/surrogate_model.h5" in names
    assert len(list(result.files.attack_samples.iterdir())) == 25
    assert not [name for name in names if name.startswith(".")]
    assert service.payload["number_of_attack_queries"] == 200
    assert service.payload["vulnerability_threshold"] == 0.5
    assert service.payload["input_dimensions"] == "(28, 28, 1)"
    assert service.payload["number_of_classes"] == "3"
    assert service.payload["access"] == "labels"  # from the service's sample
    assert "color_space" not in service.payload
    assert "read from 0.png" in result.inferred["input_dimensions"]
    phases = list(dict.fromkeys(p.phase for p in seen))
    assert phases == list(Phase)


def test_uploads_hold_what_the_contract_asks(tmp_path):
    service = FakeService()
    run(service, tmp_path)
    names = {
        slot: zipfile.ZipFile(io.BytesIO(content)).namelist()
        for slot, content in service.uploads.items()
    }
    assert names == {
        "data": ["0.png", "1.png", "2.png", "3.png"],
        "label": ["label.csv"],
        "model": ["model.h5"],
    }


def test_ready_zips_are_sent_as_they_are_and_given_values_win(tmp_path):
    files = {}
    for slot, members in {
        "data": {"deep/a.png": png(5, 7, 2)},
        "labels": {"l.csv": "image,label\na.png,1\n"},
        "model": {"m.keras": b"x"},
    }.items():
        files[slot] = tmp_path / f"{slot}.zip"
        files[slot].write_bytes(zip_of(members))
    service = FakeService()
    result = run(
        service, tmp_path, **files, classes=10, input_dimensions="(7, 5, 3)", color_space="bgr"
    )
    assert service.uploads["data"] == files["data"].read_bytes()
    assert service.payload["number_of_classes"] == 10
    assert service.payload["color_space"] == "bgr"
    assert result.inferred == {}


def test_no_defence_below_the_threshold_is_complete(tmp_path):
    result = run(FakeService(score=0.3, defense=False), tmp_path, threshold=0.5)
    assert (result.defense_due, result.defense_made, result.complete) == (False, False, True)
    assert result.files.defense_report is None
    assert result.severity is Severity.LOW


@pytest.mark.parametrize("threshold", [0, 0.5])
def test_a_defence_that_was_due_but_not_made_is_told(tmp_path, threshold):
    result = run(FakeService(score=0.9, defense=False), tmp_path, threshold=threshold)
    assert not result.complete
    assert "a defence was due" in result.problems[0]


def test_threshold_one_never_asks_for_a_defence(tmp_path):
    assert run(FakeService(score=1.0, defense=False), tmp_path, threshold=1).complete


@pytest.mark.parametrize("value", ["high", -0.1, 1.5, "nan"])
def test_bad_threshold_is_refused_before_anything_is_sent(tmp_path, value):
    service = FakeService()
    with pytest.raises(InvalidParameterError, match="expected a number from 0 to 1"):
        run(service, tmp_path, threshold=value)
    assert service.requests == []


def test_failed_job_raises_with_its_reason_and_leaves_no_output(tmp_path):
    with pytest.raises(JobFailedError, match="the file is no model") as error:
        run(FakeService(failure="the file is no model"), tmp_path)
    assert error.value.job_status.failed
    assert not (tmp_path / "out").exists()


def test_a_job_that_failed_after_its_score_keeps_what_was_measured(tmp_path):
    service = FakeService(score=0.9, failure="the detector did not train", late=True)
    result = run(service, tmp_path)
    assert not result.complete
    assert result.problems == ("job job-1 failed: the detector did not train",)
    assert (result.score, result.defense_made) == (0.9, False)
    assert result.files.vulnerability_report.is_dir()
    assert result.files.defense_report is None


def test_intervals_samples_and_warnings_are_read(tmp_path):
    result = run(FakeService(score=0.9), tmp_path)
    assert result.intervals == {"score": (0.81, 0.95), "agreement": (0.9, 0.99)}
    assert result.samples == 4
    assert result.warnings == ("the labels look odd; check normalize_data",)


def test_missing_artifact_is_a_problem_but_the_report_is_kept(tmp_path):
    service = FakeService()
    service.missing.add("Defense_artifact")
    result = run(service, tmp_path)
    assert not result.complete
    assert "no Defense_artifact here" in result.problems[0]
    assert result.files.defense_artifact is None
    assert result.files.vulnerability_report.is_dir()


def test_missing_extension_is_no_problem(tmp_path):
    service = FakeService()
    service.missing.add("Surrogate_model")
    result = run(service, tmp_path)
    assert result.complete
    assert result.files.surrogate_model is None


def test_missing_report_leaves_nothing_behind(tmp_path):
    service = FakeService()
    service.missing.add("Vulnerability")
    with pytest.raises(NotFoundError, match="no Vulnerability here"):
        run(service, tmp_path)
    assert not (tmp_path / "out").exists()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").write_text("mine")
    service.polls = 0
    files = {k: tmp_path / "in" / v for k, v in
             {"model": "model.h5", "data": "images", "labels": "label.csv"}.items()}  # fmt: skip
    with pytest.raises(NotFoundError, match="no Vulnerability here"):
        run(service, tmp_path, **files, output=tmp_path / "kept")
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["mine.txt"]


def test_earlier_result_is_not_overwritten(tmp_path):
    (tmp_path / "out" / "defense_report").mkdir(parents=True)
    service = FakeService()
    with pytest.raises(InvalidInputError, match="holds defense_report"):
        run(service, tmp_path)
    assert service.requests == []


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_archives_from_a_hostile_service_stay_in_their_folder(tmp_path, monkeypatch, name):
    service = FakeService()
    original = service.reports()
    monkeypatch.setattr(service, "reports", lambda: {**original, "Vulnerability": {name: "x"}})
    with pytest.raises(ServiceError, match="expected plain relative names"):
        run(service, tmp_path)
    assert not list(tmp_path.rglob("evil*"))


def test_report_without_a_score_falls_back_on_the_status(tmp_path, monkeypatch):
    service = FakeService(score=0.96)
    original = service.reports()
    body = json.dumps({"Extracted Model Accuracy": 0.5, "Original Model Accuracy": 0.6})
    monkeypatch.setattr(
        service, "reports", lambda: {**original, "Vulnerability": {"Vulnerability.json": body}}
    )
    result = run(service, tmp_path)
    assert (result.score, result.severity) == (0.96, Severity.CRITICAL)
    assert (result.original_accuracy, result.extracted_accuracy) == (0.6, 0.5)
    assert result.agreement is None


def test_severity_order(tmp_path):
    result = run(FakeService(score=0.85), tmp_path)
    assert result.at_least(Severity.LOW)
    assert result.at_least(Severity.HIGH)
    assert not result.at_least(Severity.CRITICAL)


@pytest.mark.parametrize("file", ["saved_model.pb", "base_model.pyc", "base_model.py"])
def test_a_model_may_be_a_folder(tmp_path, file):
    folder = tmp_path / "model"
    for name in (file, "variables/variables.index", "__pycache__/x.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    with zipfile.ZipFile(as_zip("model", folder, tmp_path)) as archive:
        assert sorted(archive.namelist()) == sorted([file, "variables/variables.index"])
        assert archive.read(file) == file.encode()


def test_equal_folders_make_equal_archives(tmp_path):
    made = []
    for name in ("a", "b"):
        source = tmp_path / name / "in"
        source.mkdir(parents=True)
        # another order of creation, and files that do not belong there
        for file in sorted(["2.png", "1.JPG", ".hidden.png", "notes.txt"], reverse=name == "b"):
            (source / file).write_bytes(file.encode())
        made.append(as_zip("data", source, tmp_path / name))
    assert made[0].read_bytes() == made[1].read_bytes()
    assert zipfile.ZipFile(made[0]).namelist() == ["1.JPG", "2.png"]


def test_nothing_to_pack_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.zip").write_bytes(b"none")
    with pytest.raises(InvalidInputError, match="expected images"):
        as_zip("data", tmp_path / "empty", tmp_path)
    with pytest.raises(InvalidInputError, match="is a folder without"):
        as_zip("model", tmp_path / "empty", tmp_path)
    with pytest.raises(InvalidInputError, match=r"label: expected a csv .* is a folder"):
        as_zip("label", tmp_path / "empty", tmp_path)
    with pytest.raises(InvalidInputError, match="is missing"):
        as_zip("model", tmp_path / "m.h5", tmp_path)
    with pytest.raises(InvalidInputError, match="expected a zip"):
        as_zip("data", tmp_path / "no.zip", tmp_path)


@pytest.mark.parametrize(("kind", "channels"), [(0, 1), (2, 3), (3, 3), (4, 1), (6, 3)])
def test_png_header(kind, channels):
    assert read_image_header(io.BytesIO(png(31, 17, kind))) == (17, 31, channels)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"x" * 3000}])
def test_jpeg_header_as_an_imaging_library_writes_it(mode, channels, options):
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.new(mode, (31, 17)).save(buffer, "JPEG", **options)
    assert read_image_header(io.BytesIO(buffer.getvalue())) == (17, 31, channels)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0\x00\x00",
        b"\xff\xd8\xff\xe0\xff\xff",
        b"BM123",
        png()[:20],
        png(width=0),
    ],
)
def test_other_and_broken_headers_give_none(content):
    assert read_image_header(io.BytesIO(content)) is None


def test_unreadable_image_size_names_the_option(tmp_path):
    (tmp_path / "d.zip").write_bytes(zip_of({"a.bmp": b"BM"}))
    with pytest.raises(InvalidInputError, match="--input-dimensions"):
        image_shape(tmp_path / "d.zip")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,label\na.png,0\nb.png,9\n", 10),
        ("\ufeffimage, Label\na.png, 4 \n", 5),
        ("image,label\na.png,0\n", 2),
        ("\r\n\r\nlabel;image\r\n3;a.png\r\n\r\n", 4),
        ("image\tlabel\na, b.png\t6\n", 7),
        ("image|label\na.png|2\n|\n", 3),
        ("image,label\na.png,3.0\n", 4),
        ('"","image","label"\n"1","a.png","5"\n', 6),
        ("image,label\na.png,7\n".encode("utf-16"), 8),
        ("image,label\nm\xfcll.png,1\n".encode("latin-1"), 2),
    ],
)
def test_classes_from_labels(tmp_path, text, expected):
    (tmp_path / "l.zip").write_bytes(zip_of({"x.csv": text}))
    assert count_classes(tmp_path / "l.zip") == (expected, "x.csv")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x.txt": ""}, "expected a csv"),
        ({"x.csv": "image,class\na,0\n"}, "expected the columns image,label; got image, class"),
        ({"x.csv": "image,label\na,cat\n"}, "line 2: expected a class number from 0, got 'cat'"),
        ({"x.csv": "image,label\na,-1\n"}, "expected a class number"),
        ({"x.csv": "image,label\n"}, "expected at least one row"),
        ({"x.csv": "image,label\na,cat\n"}, "number the classes in the order of the model's"),
        ({"x.csv": "image,label\na,1.5\n"}, "expected a class number from 0, got '1.5'"),
        ({"x.csv": b"\xff\xfe\x00"}, "expected csv text in UTF-16"),
    ],
)
def test_bad_labels_are_told(tmp_path, members, message):
    (tmp_path / "l.zip").write_bytes(zip_of(members))
    with pytest.raises(InvalidInputError, match=message):
        count_classes(tmp_path / "l.zip")
