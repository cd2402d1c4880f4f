"""The scan's result, its limits, and the readers where one number or name decides."""

import io
import json
import pickle
import re
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from modelward.domain import AssessmentError, InvalidInputError
from modelward.scan import (
    Level,
    Limits,
    Outcome,
    ScanReport,
    Verdict,
    model_kind,
    require_harmless,
    require_readable,
    scan_path,
    to_json,
)
from modelward.scan.joblib_arrays import width_of
from modelward.scan.limits import Budget
from modelward.scan.pickle_names import effective, is_callable, judge
from modelward.scan.pickle_walk import walk
from modelward.scan.places import bad_name, roles


class Evil:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return eval, ("1 + 1",)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_finding_names_place_and_reason(tmp_path: Path):
    report = scan_path(write(tmp_path / "m.pkl", pickle.dumps(Evil(), 4)))
    (finding,) = report.findings
    assert (finding.rule, finding.severity) == ("MW-PKL-001", Level.CRITICAL)
    content = (tmp_path / "m.pkl").read_bytes()
    assert finding.offset == content.index(b"\x93")  # STACK_GLOBAL
    assert finding.location == f"m.pkl, byte {finding.offset} (STACK_GLOBAL)"
    assert "builtins.eval" in finding.reason
    assert "CWE-502" in finding.references
    assert report.verdict is Verdict.MALICIOUS
    assert report.complete


def test_place_inside_archives(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as outer:
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("deep/m.pkl", pickle.dumps(Evil()))
        outer.writestr("in.zip", inner.getvalue())
    (finding,) = scan_path(tmp_path / "a.zip").findings
    assert finding.path == "a.zip!in.zip!deep/m.pkl"


def test_verdicts():
    from modelward.scan import Finding, Part

    passed = Part("a", "text", Outcome.PASSED)
    skipped = Part("b", "unknown", Outcome.SKIPPED, ("why",))
    broken = Part("c", "zip", Outcome.ERROR, ("why",))
    info = Finding("MW-COD-001", Level.INFO, "a", "code")
    worst = Finding("MW-PKL-001", Level.CRITICAL, "a", "eval")
    assert ScanReport("t", (passed,), ()).verdict is Verdict.CLEAN
    assert ScanReport("t", (), ()).verdict is Verdict.INCOMPLETE  # nothing was looked at
    assert ScanReport("t", (passed, skipped), ()).verdict is Verdict.INCOMPLETE
    assert ScanReport("t", (passed, broken), ()).verdict is Verdict.INCOMPLETE
    assert ScanReport("t", (passed,), (info,)).verdict is Verdict.SUSPICIOUS
    both = ScanReport("t", (broken,), (info, worst))
    assert both.verdict is Verdict.MALICIOUS and not both.complete
    assert both.at_least(Level.LOW) == (worst,)
    assert both.coverage() == {"passed": 0, "finding": 0, "skipped": 0, "error": 1}


def test_levels_are_ordered_by_harm_not_by_letters():
    assert Level.INFO < Level.LOW < Level.MEDIUM < Level.HIGH < Level.CRITICAL
    assert max(Level.HIGH, Level.MEDIUM, Level.CRITICAL) is Level.CRITICAL


def test_nothing_there(tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"expected a file or folder; got .*not there"):
        scan_path(tmp_path / "none")


def test_empty_folder_is_not_clean(tmp_path: Path):
    report = scan_path(tmp_path)
    assert report.verdict is Verdict.INCOMPLETE
    assert "holds no file" in report.parts[0].reasons[0]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(files=2), "limit of 2 files"),
        (Limits(unpacked_bytes=1000), "limit of 1000 unpacked_bytes"),
        (Limits(opcodes=1000), "limit of 1000 opcodes"),
        (Limits(depth=0), "nested deeper than 0"),
        (Limits(seconds=0), "0 seconds are used up"),
        (Limits(allowance=100, ratio=2), "compression ratio above 2"),
    ],
)
def test_what_lies_behind_a_limit_is_not_clean(tmp_path: Path, limits: Limits, reason: str):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ab":
            archive.writestr(f"{name}.pkl", pickle.dumps(list(map(float, range(5000)))))
    report = scan_path(tmp_path / "a.zip", limits=limits)
    assert report.verdict is Verdict.INCOMPLETE
    assert any(reason in why for part in report.unread for why in part.reasons)
    assert scan_path(tmp_path / "a.zip").verdict is Verdict.CLEAN


def test_a_flood_of_small_findings_hides_no_grave_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("modelward.scan.scanner.MAX_FINDINGS", 3)
    for number in range(5):
        write(tmp_path / f"a{number}.h5", b"{}")
    write(tmp_path / "z.pkl", pickle.dumps(Evil()))
    report = scan_path(tmp_path)
    assert [found.severity for found in report.findings] == [Level.CRITICAL, *[Level.LOW] * 3]
    assert report.verdict is Verdict.MALICIOUS


def test_links_inside_a_model_are_its_files(tmp_path: Path):
    """A hub's cache is a folder of links; what they lead to is scanned under their names."""
    cache = tmp_path / "models--owner--name"
    folder = cache / "snapshots" / "0123"
    for place in (folder / "sub", cache / "blobs"):
        place.mkdir(parents=True)
    write(cache / "blobs" / "aa", pickle.dumps([1]))
    write(folder / "config.json", b"{}")
    (folder / "model.pkl").symlink_to("../../blobs/aa")
    (folder / "sub" / "copy.json").symlink_to("../config.json")
    report = scan_path(folder)
    assert report.verdict is Verdict.CLEAN
    assert {part.path: part.format for part in report.parts} == {
        "config.json": "json", "model.pkl": "pickle", "sub/copy.json": "json",
    }  # fmt: skip
    write(cache / "blobs" / "aa", pickle.dumps(Evil()))
    assert scan_path(folder).verdict is Verdict.MALICIOUS
    write(cache / "secret", b"x")
    for number, target in enumerate(("../../secret", "/etc/hostname", "nowhere", "circle", ".")):
        link = folder / ("circle" if target == "circle" else f"link{number}")
        link.symlink_to(target)
        (found,) = [one for one in scan_path(folder).findings if one.rule == "MW-FMT-004"]
        assert found.path == link.name
        link.unlink()


def test_names():
    assert judge("collections", "OrderedDict") is None
    assert judge("collections", "OrderedDict.fromkeys") is Level.MEDIUM
    assert judge("os", "system") is Level.CRITICAL
    assert judge("numpy", "ndarray") is None
    # a module that is safe for one name is not safe for another
    assert judge("numpy", "load") is Level.CRITICAL
    assert judge("numpy.testing._private.utils", "runstring") is Level.CRITICAL
    assert judge("sklearn.linear_model._logistic", "LogisticRegression") is None
    assert judge("sklearn.linear_model._logistic", "os") is Level.MEDIUM
    assert judge("somebody", "Thing") is Level.MEDIUM
    assert is_callable("numpy", "dtype") and not is_callable("numpy", "ndarray")
    assert effective("__builtin__", "xrange", 2) == ("builtins", "range")
    assert effective("__builtin__", "xrange", 4) == ("__builtin__", "xrange")


def test_no_allowed_name_is_known_to_do_harm():
    """The list is made by a script; these must never get onto it."""
    from modelward.scan.pickle_names import _allowed

    names = {f"{module}.{name.removesuffix('()')}" for module, all_ in _allowed().items()
             for name in all_}  # fmt: skip
    assert len(names) > 800
    bad = re.compile(
        r"(os|posix|subprocess|sys|importlib|operator|functools|shutil|io|runpy)\..*"
        r"|builtins\.(eval|exec|compile|open|getattr|setattr|__import__|input|globals|type|map)"
        r"|.*\.(load|loads|memmap|fromfile|_ufunc_reconstruct|system|run|vectorize)"
        r"|torch\.(hub|jit(?!\._pickle)|serialization\.load|utils)\b.*|scipy\.stats\..*"
    )
    assert not [name for name in names if bad.fullmatch(name)]


def test_every_allowed_function_is_in_a_list_by_hand():
    """Only what is written into the script by hand may be called with arbitrary arguments."""
    from modelward.scan.pickle_names import _allowed

    source = (Path(__file__).parents[2] / "tools/allowed_globals.py").read_text("utf-8")
    lists = source[source.index("CALLABLE = {") : source.index("REFERENCED = {")]
    for module, all_ in _allowed().items():
        for name in all_:
            bare = name.removesuffix("()")
            harvested = re.match(r"(sklearn|scipy|numpy)\.", module)
            if name.endswith("()") and not harvested:
                assert re.search(rf"\b{re.escape(bare)}\b", lists), f"{module}.{bare}"


def test_walk_follows_the_memo_by_count_and_by_number():
    # MEMOIZE numbers by what is stored so far; BINPUT 5 makes the next MEMOIZE number 2
    raw = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x8c\x04evalq\x05\x94000h\x00h\x01\x93."
    stream = walk(io.BytesIO(raw), Budget(Limits()))
    assert list(stream.globals) == [("os", "system")]
    assert stream.broken is None


def test_walk_stops_where_the_unpickler_would():
    stream = walk(io.BytesIO(b"\x80\x02cos\nsystem\n\xffcsys\nexit\n."), Budget(Limits()))
    assert list(stream.globals) == [("os", "system")]
    assert "unknown opcode at byte 13" in (stream.broken or "")


@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        ("f8", 8), ("i2", 2), ("?", 1), ("c16", 16), ("S5", 5), ("U3", 12), ("M8[ns]", 8),
        ("O", None), ([("a", "f4"), ("b", "i8")], 12), ([("a", "f4"), ("b", "O")], None),
    ],
)  # fmt: skip
def test_width_of_arrays_as_numpy_counts_it(dtype: object, width: int | None):
    stream = walk(io.BytesIO(pickle.dumps(np.dtype(dtype))), Budget(Limits()))
    assert width_of(stream.value) == width
    if width is not None:
        assert np.dtype(dtype).itemsize == width


def test_dtypes_that_contradict_themselves():
    from modelward.scan.pickle_stream import ContradictionError

    plain = pickle.dumps(np.dtype([("a", "f4")]), 2)
    for old, new in ((b"K\x04K\x01K\x10", b"K\x05K\x01K\x10"), (b"K\x10t", b"K\x11t")):
        assert plain.count(old) == 1
        stream = walk(io.BytesIO(plain.replace(old, new)), Budget(Limits()))
        with pytest.raises(ContradictionError, match=r"another size|contradict its fields"):
            width_of(stream.value)


def test_roles_need_what_goes_with_them():
    assert roles(["m/data.pkl", "m/data/0", "m/version"])["m/data/0"] == "tensor"
    assert roles(["m/data/0", "m/version"]) == {}
    shard = "t/variables/variables.data-00000-of-00001"
    assert roles([shard, "t/variables/variables.index"]) == {shard: "tensor"}
    assert roles([shard, "t/variables/other.index", "t/saved_model.pb"]) == {}
    assert roles(["t/saved_model.pb", "t/fingerprint.pb"]) == {"t/fingerprint.pb": "protobuf"}
    assert roles(["t/fingerprint.pb"]) == {}


@pytest.mark.parametrize("name", ["/a", "a/../b", "..", "C:\\x", "C:x", "a\\..\\b", "a\nb"])
def test_names_that_leave(name: str):
    assert bad_name(name)


def test_names_that_stay():
    assert not any(map(bad_name, ["a/b.c", "..a", "a..b", ".hidden", "a b"]))


def test_names_cannot_write_to_the_terminal(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("\x1b]0;x\x07\u202efdp.pkl", pickle.dumps(Evil()))
    import os

    (tmp_path / os.fsdecode(b"\xff.pkl")).write_bytes(pickle.dumps(Evil()))
    report = scan_path(tmp_path)
    text = repr([finding.location for finding in report.findings])
    assert len(report.findings) >= 2
    for finding in report.findings:
        assert finding.location.isprintable()
        finding.location.encode("utf-8")
    assert "u001b" in text and "udcff" in text


def test_gate(tmp_path: Path):
    evil = scan_path(write(tmp_path / "m.pkl", pickle.dumps(Evil())))
    with pytest.raises(AssessmentError, match=r"got MW-PKL-001 \(critical\) at m\.pkl, byte \d+"):
        require_harmless(evil)
    code = scan_path(write(tmp_path / "m.py", b"import os\n"))
    assert code.verdict is Verdict.SUSPICIOUS
    require_harmless(code)  # it may run in the sandbox
    broken = scan_path(write(tmp_path / "b.pkl", b"\x80\x04N"))
    with pytest.raises(AssessmentError, match=r"scan can read to its end; got b\.pkl: .*STOP"):
        require_readable(broken)
    require_readable(scan_path(write(tmp_path / "odd.bin", b"\x01\x00\xff" * 99)))


def test_files_of_file_managers_do_not_stop_a_model(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("__MACOSX/._model.h5", b"\x00\x05\x16\x07\x00" * 30)
    report = scan_path(tmp_path / "a.zip")
    assert not report.findings
    require_readable(report)


def test_bytecode_names_its_python(tmp_path: Path):
    import importlib.util

    path = write(tmp_path / "m.pyc", importlib.util.MAGIC_NUMBER + b"\0" * 12 + b"\xe3")
    (finding,) = scan_path(path).findings
    assert f"Python {sys.version_info.major}.{sys.version_info.minor} " in finding.reason
    assert finding.severity is Level.INFO
    other = write(tmp_path / "n.pyc", b"\x61\x0d\r\n" + b"\0" * 12)  # 3425
    assert "Python 3.9 " in scan_path(other).findings[0].reason


def test_missing_fickling_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fickling.analysis", None)
    report = scan_path(write(tmp_path / "m.pkl", pickle.dumps(np.ones(2))))
    assert report.verdict is Verdict.CLEAN
    assert "no second opinion" in report.notes[0]


def test_fickling_can_only_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    analysis = pytest.importorskip("fickling.analysis")
    path = write(tmp_path / "m.pkl", pickle.dumps(np.ones(2)))

    class Result:
        severity = analysis.Severity.OVERTLY_MALICIOUS
        trigger = "eval(1)"

    class Results:
        results = (Result(),)

    monkeypatch.setattr(analysis, "check_safety", lambda pickled: Results())
    (finding,) = scan_path(path).findings
    assert (finding.rule, finding.severity) == ("MW-PKL-010", Level.HIGH)

    def fails(pickled: object) -> None:
        raise RecursionError

    monkeypatch.setattr(analysis, "check_safety", fails)
    report = scan_path(path)
    assert report.verdict is Verdict.CLEAN
    assert report.notes == ("fickling gave no opinion on 1 pickles",)


def test_json(tmp_path: Path):
    report = scan_path(write(tmp_path / "m.pkl", pickle.dumps(Evil())))
    document = json.loads(to_json(report))
    assert document["verdict"] == "malicious"
    assert document["complete"] is True
    assert document["findings"][0]["rule"] == "MW-PKL-001"
    assert document["parts"] == [
        {"path": "m.pkl", "format": "pickle", "outcome": "finding", "reasons": []}
    ]


KINDS = [
    ("m.pkl", pickle.dumps([1]), ("code", "pickle")),
    ("m.weird", pickle.dumps([1]), ("code", "pickle")),
    ("m.h5", b"cos\nsystem\n(S'x'\ntR.", ("code", "pickle")),
    ("m.onnx", b"\x08\x08\x12\x01x\x3a\x00", ("data", "onnx")),
    ("m.safetensors", b"\x02" + b"\0" * 7 + b"{}", ("data", "safetensors")),
    ("m.pyc", b"\xa7\r\r\n" + b"\0" * 12, ("code", "pyc")),
    ("m.py", b"import os\n", ("code", "source")),
    ("m.gguf", b"GGUF\3", ("data", "gguf")),
    ("m.bin", b"\1\2\xff\xfe" * 40, ("unknown", "unknown")),
    ("saved_model.pb", b"\x08\x01\x12\x00", ("code", "savedmodel")),
]


@pytest.mark.parametrize(("name", "content", "kind"), KINDS, ids=[row[0] for row in KINDS])
def test_kinds(tmp_path: Path, name: str, content: bytes, kind: tuple[str, str]):
    assert model_kind(write(tmp_path / name, content)) == kind


def test_kinds_of_containers(tmp_path: Path):
    import joblib
    import torch

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = 1
    assert model_kind(tmp_path / "a.h5") == ("data", "keras_h5")
    torch.save({}, tmp_path / "a.pt")
    assert model_kind(tmp_path / "a.pt") == ("code", "torch")
    torch.save({}, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    assert model_kind(tmp_path / "b.pt") == ("code", "torch")
    joblib.dump(np.ones(2), tmp_path / "a.joblib", compress=3)
    assert model_kind(tmp_path / "a.joblib") == ("code", "joblib")
    np.save(tmp_path / "a.npy", np.ones(2))
    assert model_kind(tmp_path / "a.npy") == ("data", "npy")
    np.save(tmp_path / "o.npy", np.array([None]))
    assert model_kind(tmp_path / "o.npy") == ("code", "npy")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "saved_model.pb").write_bytes(b"")
    assert model_kind(tmp_path / "tree") == ("code", "savedmodel")


def test_the_keras_floor_covers_the_published_holes():
    """safe_mode was passed by again and again; 3.15.1 holds the last of those fixes."""
    import tomllib
    from importlib.metadata import version

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    (floor,) = [line for line in extras["server"] if line.startswith("keras")]
    assert floor == "keras>=3.15.1"
    assert tuple(map(int, version("keras").split(".")[:3])) >= (3, 15, 1)


def test_docs_list_every_rule():
    from modelward.scan.rules import RULES

    text = (Path(__file__).parents[2] / "docs/scanning.md").read_text("utf-8")
    for name, rule in RULES.items():
        assert f"| {name} | {rule.level} | {rule.title} |" in text
    assert set(re.findall(r"MW-[A-Z0-9]+-\d{3}", text)) == set(RULES)
