"""What a short file may cost the scan: time and memory stay bounded whatever it repeats."""

import json
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from modelward.domain import AssessmentError
from modelward.scan import Limits, Verdict, check_config, check_hdf5, pickle_walk, scan_path
from modelward.scan import pickle_machine as machine
from modelward.scan.limits import count_of


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def reasons(path: Path, content: bytes, limits: Limits | None = None) -> str:
    """Why a file was not read to its end."""
    path.write_bytes(content)
    report = scan_path(path, limits=limits)
    assert report.verdict is not Verdict.CLEAN
    return "; ".join(reason for part in report.unread for reason in part.reasons)


def test_a_state_that_is_given_again_and_again_is_paid_for(tmp_path: Path):
    state = b"ccollections\nOrderedDict\n(" + b"K\x01" * 4000 + b"tRq\x010"
    content = b"\x80\x02cargparse\nNamespace\n)\x81" + state + b"h\x01b" * 3000 + b"."
    limits = Limits(opcodes=100_000)
    assert "limit of 100000 opcodes" in reasons(tmp_path / "m.pkl", content, limits)


def test_the_fields_of_a_dtype_are_paid_for(tmp_path: Path):
    number = b"cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87Rq\x010"
    fields = b"}(" + b"".join(text(f"f{n}") + b"h\x01K\x00\x86" for n in range(1500)) + b"u"
    state = b"(K\x03" + text("|") + b"N)" + fields + b"K\x08K\x01K\x00tq\x020"
    made = b"cnumpy\ndtype\nq\x030" + text("V8") + b"\x89\x88\x87q\x040"
    content = b"\x80\x02" + number + state + made + b"h\x03h\x04Rh\x02b0" * 2000 + b"N."
    limits = Limits(opcodes=100_000)
    assert "limit of 100000 opcodes" in reasons(tmp_path / "m.pkl", content, limits)


def test_dtypes_of_dtypes_are_counted_with_every_repetition(tmp_path: Path):
    """Four levels of 64 fields in 6 KB are 16 million fields."""
    content = b"\x80\x02cnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87Rq\x640"
    for level in range(4):
        inner = bytes([ord("h"), 100 + level])
        fields = b"}(" + b"".join(text(f"f{n}") + inner + b"K\x00\x86" for n in range(64)) + b"u"
        state = b"(K\x03" + text("|") + b"N)" + fields + b"K\x08K\x01K\x00tb"
        content += b"cnumpy\ndtype\n" + text("V8") + b"\x89\x88\x87R" + state
        content += bytes([ord("q"), 101 + level]) + b"0"
    content += b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(" + text("shape") + b"K\x00\x85"
    content += text("dtype") + b"h\x68ub."
    assert "a dtype of too many fields" in reasons(tmp_path / "m.joblib", content)


def test_objects_and_memo_of_a_pickle_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "MAX_MADE", 1000)
    assert "more than 1000 objects" in reasons(tmp_path / "m.pkl", b"\x80\x02" + b"]0" * 1001)
    monkeypatch.setattr(pickle_walk, "MAX_MEMO", 1000)
    assert "entries in the pickle's memo" in reasons(
        tmp_path / "m.pkl", b"\x80\x02N" + b"\x94" * 1001 + b"."
    )


def test_a_shape_of_many_dimensions_is_not_multiplied_out(tmp_path: Path):
    assert count_of([2**40] * 300_000) > 2**64
    assert count_of([2**40] * 300_000 + [0]) == 0
    assert count_of([]) == 1
    assert count_of([3, 4, 5]) == 60
    tensor = {"dtype": "F32", "shape": [2**47] * 300_000, "data_offsets": [0, 0]}
    header = json.dumps({"a": tensor}).encode()
    content = struct.pack("<Q", len(header)) + header
    assert "described wrongly" in reasons(tmp_path / "m.safetensors", content)


def test_json_of_many_containers_is_not_built(tmp_path: Path):
    content = b"[" + b"{}," * 3_000_000 + b"1]"
    assert "lists and objects" in reasons(tmp_path / "m.json", content)


def test_paths_in_a_graph_are_paid_for(tmp_path: Path):
    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
        return bytes([number << 3 | 2]) + length + content

    def node(name: str, operator: str, *inputs: str) -> bytes:
        words = [(1, name), (2, operator), *((3, one) for one in inputs)]
        return field(1, b"".join(field(number, word.encode()) for number, word in words))

    chain = [node("i0", "Const"), *(node(f"i{n}", "Identity", f"i{n - 1}") for n in range(1, 300))]
    savers = [node(f"s{n}", "SaveV2", "i299") for n in range(300)]
    meta = field(2, b"".join(chain + savers))
    limits = Limits(nodes=20_000)
    assert "limit of 20000 nodes" in reasons(
        tmp_path / "saved_model.pb", b"\x08\x01" + field(2, meta), limits
    )


def test_a_chunk_counts_as_a_whole(tmp_path: Path):
    """To read one value, HDF5 unpacks its whole chunk: 1 GiB out of a file of a few KB."""
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (1,), "f8", chunks=(2**27,), maxshape=(None,), compression=1)
    assert any(finding.rule == "MW-H5-002" for finding in scan_path(path).findings)
    with (
        h5py.File(path) as file,
        pytest.raises(AssessmentError, match="1073741824 bytes declared"),
    ):
        check_hdf5(file, path.stat().st_size)


def test_ordinary_chunks_pass(tmp_path: Path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=np.ones((50, 50)), chunks=(10, 50), compression=1)
    assert scan_path(path).verdict is Verdict.CLEAN


def test_values_in_a_configuration_are_numbers():
    value = {"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "U500000000"}}
    model = {"class_name": "Sequential", "config": {"name": "m", "layers": [value]}}
    with pytest.raises(AssessmentError, match="U500000000"):
        check_config(model)
    value["config"] = {"value": [1.0], "dtype": "float32"}
    check_config(model)


def test_small_files_get_less_time(tmp_path: Path):
    path = tmp_path / "m"
    path.write_bytes(bytes(2**20))
    small = Limits.of_path(path)
    assert small.seconds == pytest.approx(42)
    assert small.unpacked_bytes == 2**30 + 100 * 2**20
    assert Limits.of_path(path, 5).seconds == 5
    assert Limits.of_path(tmp_path).seconds == pytest.approx(42)
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole
    assert Limits.of_path(path).seconds == Limits().seconds
    assert Limits.of_path(path).unpacked_bytes == Limits().unpacked_bytes
