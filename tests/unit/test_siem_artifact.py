"""What the defence reports, through the assembled predict.py alone."""

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from siem_helpers import Scripted

from modelward.defense import predict_source
from modelward.siem import CREDENTIALS
from modelward.siem_sink import LocalSink

FACTS = {"model_id": "m-1", "job_id": "j-1", "task_type": "image_classification",
         "analysis_type": "extraction"}  # fmt: skip


class Model:
    """Says attack with the value of the first pixel."""

    input_shape = (None, 2, 2, 1)

    def predict(self, x, verbose=0):
        return np.stack([1 - x[:, 0, 0, 0], x[:, 0, 0, 0]], 1)


def images(*probabilities):
    return np.ones((len(probabilities), 2, 2, 1)) * np.array(probabilities)[:, None, None, None]


@pytest.fixture(scope="module")
def module():
    space = {"__name__": "predict"}
    exec(compile(predict_source("9.9.9", FACTS), "predict.py", "exec"), space)
    return space


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    for variable in CREDENTIALS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def make(module, tmp_path):
    """Makes defences that are closed at the end."""
    with contextlib.ExitStack() as stack:

        def made(*arguments, **options):
            options.setdefault("spool_path", tmp_path / "spool.db")
            return stack.enter_context(module["AISDefenseModel"](Model(), *arguments, **options))

        yield made


def by_both(sink):
    return {
        "azure_log_customer_id": sink.workspace_id,
        "azure_log_shared_key": sink.shared_key,
        "azure_log_endpoint": sink.url,
        "splunk_url": sink.url,
        "authorization": f"Splunk {sink.token}",
    }


def test_every_flagged_row_is_an_event_in_both_siems(make):
    with LocalSink() as sink:
        defense = make(**by_both(sink))
        label, probability = defense.predict(images(0.2, 0.9, 0.847, 0.6), source="192.0.2.9")
        assert label.tolist() == ["not-attack", "attack", "attack", "attack"]
        np.testing.assert_allclose(probability, [0.8, 0.9, 0.847, 0.6], rtol=1e-6)
        assert defense.flush(10)
        assert defense.stats()["sinks"]["splunk"]["delivered"] == 3
        defense.close()
        assert sink.sentinel_events == sink.splunk_events
        got = sink.sentinel_events
    assert [(e["probability"], e["SuspiciousLevel"]) for e in got] == [
        (0.9, "high suspicious attack"),
        (0.85, "high suspicious attack"),
        (0.6, ""),
    ]
    assert len({e["event_id"] for e in got}) == 3
    common = {(e["RawMessage"], e["service_name"], e["asset_id"], e["source_name"]) for e in got}
    assert common == {
        (
            "Image Classification AI Model Extraction Attack Identified",
            "image_classification_extraction_defense_engine",
            "m-1",
            "192.0.2.9",
        )
    }
    assert {(e["model_id"], e["job_id"], e["defense_version"]) for e in got} == {
        ("m-1", "j-1", "9.9.9")
    }
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", e["timestamp"]) for e in got)


@pytest.mark.parametrize(
    ("probability", "shown", "level"),
    [
        (0.846, 0.85, "high suspicious attack"),
        (0.844, 0.84, "low suspicious attack"),
        (0.696, 0.7, "low suspicious attack"),
        (0.694, 0.69, ""),
        (1.0, 1.0, "high suspicious attack"),
    ],
)
def test_the_level_follows_the_two_decimals_that_are_sent(make, probability, shown, level):
    sink = Taking()
    defense = make(sink=sink)
    defense.predict(images(probability))
    assert defense.flush(10)
    assert [(e["probability"], e["SuspiciousLevel"]) for e in sink.events] == [(shown, level)]


class Taking(Scripted):
    def __init__(self, *outcomes):
        super().__init__(*outcomes)
        self.events = []

    def send(self, events):
        self.events += events
        return super().send(events)


def test_below_min_probability_nothing_is_reported(make):
    sink = Taking()
    defense = make(sink=sink, min_probability=0.8)
    label, _ = defense.predict(images(0.79, 0.81))
    assert label.tolist() == ["attack", "attack"]
    assert defense.flush(10)
    assert [e["probability"] for e in sink.events] == [0.81]


def test_a_flood_is_one_event(make):
    sink = Taking()
    defense = make(sink=sink, aggregate_above=4, source_name="198.51.100.1")
    defense.predict(images(*[0.9] * 4))
    defense.predict(images(*[0.8] * 4, 0.97, 0.1), source="192.0.2.1")
    defense.predict(images(*[0.8] * 5), source=[f"192.0.2.{n}" for n in range(5)])
    assert defense.flush(10)
    assert [e["rows"] for e in sink.events] == [1, 1, 1, 1, 5, 5]
    flood, mixed = sink.events[4:]
    assert flood["probability"] == 0.97
    assert flood["SuspiciousLevel"] == "high suspicious attack"
    assert flood["source_name"] == "192.0.2.1"
    assert "Image Classification AI Model Extraction Attack Identified" in flood["RawMessage"]
    assert "(5 inputs in one call)" in flood["RawMessage"]
    assert mixed["source_name"] == "198.51.100.1"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (None, ["198.51.100.1"] * 2),
        ("192.0.2.1", ["192.0.2.1"] * 2),
        (["a", "b", "c"], ["b", "c"]),
        (np.array(["a", "b", "c"]), ["b", "c"]),
        (("a", 2, None), ["2", "None"]),
        (["too", "few"], ["198.51.100.1"] * 2),
        (7, ["7", "7"]),
    ],
)
def test_the_source_of_each_row(make, source, names):
    sink = Taking()
    defense = make(sink=sink, source_name="198.51.100.1")
    defense.predict(images(0.1, 0.9, 0.9), source=source)
    assert defense.flush(10)
    assert [e["source_name"] for e in sink.events] == names


def test_names_can_be_given_and_have_sensible_defaults(make, module):
    sink = Taking()
    given = make(sink=sink, asset_id="asset", service_name="engine", source_name="192.0.2.3")
    given.predict(images(0.9))
    assert given.flush(10)
    (event,) = sink.events
    assert (event["asset_id"], event["service_name"]) == ("asset", "engine")
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", module["own_address"]())
    assert event["Computer"] == os.uname().nodename


def test_without_a_siem_nothing_is_stored(module, tmp_path):
    with module["AISDefenseModel"](Model(), spool_path=tmp_path / "spool.db") as defense:
        defense.predict(images(0.9))
        assert defense.flush()
        assert defense.stats() == {}
    assert list(tmp_path.iterdir()) == []


def test_the_default_spool_lies_in_the_state_folder(module, tmp_path):
    with module["AISDefenseModel"](Model(), sink=Taking(), asset_id="../a b/é") as defense:
        defense.predict(images(0.9))
        assert defense.flush(10)
        assert (tmp_path / "state" / "modelward" / "siem-_a_b__.db").is_file()


def test_credentials_come_from_the_environment(make, monkeypatch):
    with LocalSink() as sink:
        values = (sink.workspace_id, sink.shared_key, sink.url, sink.token)
        for variable, value in zip(CREDENTIALS.values(), values, strict=True):
            monkeypatch.setenv(variable, value)
        defense = make(azure_log_endpoint=sink.url)
        defense.predict(images(0.9))
        assert defense.flush(10)
        assert (len(sink.sentinel_events), len(sink.splunk_events)) == (1, 1)


def test_credentials_are_taken_by_position_as_the_vendor_takes_them(make):
    with LocalSink() as sink:
        args = (sink.workspace_id, sink.shared_key, sink.url, sink.token)
        defense = make(*args, azure_log_endpoint=sink.url)
        defense.predict(images(0.9))
        assert defense.flush(10)
        assert (len(sink.sentinel_events), len(sink.splunk_events)) == (1, 1)


SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ"  # base64 that does not decode: its padding is missing
GOOD = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"azure_log_customer_id": "id"}, "azure_log_shared_key: expected together with azure_log"),
        ({"azure_log_shared_key": GOOD}, "azure_log_customer_id: expected together with azure_log"),
        ({"splunk_url": "https://s:8088"}, "authorization: expected together with splunk_url"),
        ({"authorization": "token-token"}, "splunk_url: expected together with authorization"),
        (
            {"azure_log_customer_id": "id", "azure_log_shared_key": SECRET},
            "azure_log_shared_key: expected the workspace's primary or secondary key",
        ),
        (
            {"azure_log_customer_id": "id", "azure_log_shared_key": "clé-secrète-secrète"},
            "azure_log_shared_key: expected the workspace's",
        ),
        (
            {"azure_log_customer_id": "a/b", "azure_log_shared_key": GOOD},
            "azure_log_customer_id: expected the workspace id",
        ),
        (
            {"azure_log_customer_id": "id", "azure_log_shared_key": GOOD,
             "azure_log_endpoint": "http://logs.example"},
            "azure_log_endpoint: expected https",
        ),
        ({"splunk_url": "splunk:8088", "authorization": "token-token"}, "splunk_url: expected an"),
        ({"splunk_url": "https://", "authorization": "token-token"}, "splunk_url: expected an"),
        ({"splunk_url": "https://h:99999", "authorization": "token-token"}, "splunk_url: expected"),
        ({"splunk_url": "https://h:x", "authorization": "token-token"}, "splunk_url: expected an"),
        ({"splunk_url": "ftp://h", "authorization": "token-token"}, "splunk_url: expected an add"),
        ({"splunk_url": "https://u:p@h", "authorization": "token-token"}, "splunk_url: expected s"),
        ({"splunk_url": "https://[::1", "authorization": "token-token"}, "splunk_url: expected an"),
        ({"splunk_url": "http://h", "authorization": "token-token"}, "splunk_url: expected https"),
        ({"splunk_url": "https://h", "authorization": "Bearer token-token"}, "authorization: exp"),
        ({"splunk_url": "https://h", "authorization": "tokén-token"}, "authorization: expected a"),
        (
            {"splunk_url": "https://h", "authorization": "token-token", "ca_bundle": "/nowhere"},
            "ca_bundle: expected a readable PEM file",
        ),
        ({"min_probability": 1.5}, "min_probability: expected 0 to 1"),
        ({"min_probability": float("nan")}, "min_probability: expected 0 to 1"),
        ({"aggregate_above": 0}, "aggregate_above: expected 1 or more"),
        ({"aggregate_above": float("nan")}, "aggregate_above: expected 1 or more"),
        ({"aggregate_above": float("inf")}, "aggregate_above: expected 1 or more"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named_and_secrets_are_not(module, tmp_path, options, message, caplog):
    with pytest.raises(ValueError, match=message) as caught:
        module["AISDefenseModel"](Model(), spool_path=tmp_path / "spool.db", **options)
    for name in ("azure_log_shared_key", "authorization"):
        for word in str(options.get(name, "-" * 99)).split()[-1:]:
            assert word not in str(caught.value) + caplog.text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not (tmp_path / "spool.db").exists()


@pytest.mark.parametrize("name", ["min_probability", "aggregate_above"])
@pytest.mark.parametrize("value", ["0.5", None, [1], True, np.array([1, 2])])
def test_numbers_must_be_numbers(module, name, value):
    with pytest.raises(TypeError, match=f"{name}: expected a number, got"):
        module["AISDefenseModel"](Model(), **{name: value})
    module["AISDefenseModel"](Model(), min_probability=np.float32(0.5), aggregate_above=np.int64(1))


def test_a_sink_must_be_one(module):
    with pytest.raises(TypeError, match=r"sink: expected an object with name and send\(events\)"):
        module["AISDefenseModel"](Model(), sink="splunk")


def test_plain_http_leaves_this_machine_only_on_demand(make):
    defense = make(splunk_url="http://192.0.2.1:8088", authorization="token-token", allow_http=True)
    assert "token-token" not in repr(defense._delivery)


def test_secrets_are_in_no_repr_and_no_log(make, caplog):
    caplog.set_level("DEBUG")
    with LocalSink() as sink:
        sink.refuse_credentials = True
        defense = make(**by_both(sink))
        defense.predict(images(0.9))
        assert sink.wait_requests(2, 10)
        defense.close()
        state = repr(defense._delivery) + repr(defense.stats())
        state += "".join(repr(sender.sink) for sender in defense._delivery._senders.values())
        for secret in (sink.shared_key, sink.token):
            assert secret not in state + caplog.text
            assert secret.encode() not in defense._delivery._path.read_bytes()
    assert "refused the credentials" in caplog.text


def broken_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "spool.db"


def test_prediction_survives_when_everything_about_the_siem_is_broken(module, tmp_path, caplog):
    asked = threading.Event()

    class Broken:
        name = "broken"

        def send(self, events):
            asked.set()
            raise SystemError("broken")

    defense = module["AISDefenseModel"](
        Model(), sink=Broken(), spool_path=broken_folder(tmp_path), source_name="192.0.2.1"
    )
    for source in (None, object(), ["a"]):
        label, _ = defense.predict(images(*[0.9] * 3), source=source)
        assert label.tolist() == ["attack"] * 3
    assert asked.wait(10)
    assert not defense.flush(0.2)
    defense._delivery._keeper.keep = None  # not even this may reach the caller
    assert len(defense.predict(images(0.9))[0]) == 1
    defense._delivery.submit_rows = None
    assert len(defense.predict(images(0.9))[0]) == 1
    assert defense.stats()["dropped"] == 1
    assert defense.stats()["sinks"]["broken"]["last_error"].startswith("the sink failed with")
    defense._delivery.close(0)


def test_a_spool_locked_for_good_does_not_stop_predictions(make, tmp_path):
    defense = make(sink=Taking())
    other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for _ in range(20):
        assert defense.predict(images(0.9))[0].tolist() == ["attack"]
    assert defense.stats()["in_memory"] == 20
    other.execute("ROLLBACK")
    other.close()
    assert defense.flush(10)
    assert defense.stats()["sinks"]["scripted"]["delivered"] == 20


OLD = """
import sys, types
numpy = types.ModuleType("numpy"); numpy.ndarray = object; sys.modules["numpy"] = numpy
space = {"__name__": "predict"}
exec(compile(open(sys.argv[1]).read(), "predict.py", "exec"), space)
names = ("azure_log_customer_id", "azure_log_shared_key", "splunk_url", "authorization")
values = (sys.argv[3], sys.argv[4], sys.argv[2], sys.argv[5])
sinks = space["make_sinks"](dict(zip(names, values)), azure_log_endpoint=sys.argv[2])
event = space["Event"](raw_message=space["raw_message"]("nlp", "evasion"), service_name="s",
    asset_id="a", source_name="192.0.2.1", probability=0.9)
with space["Delivery"](sinks, sys.argv[6]) as delivery:
    delivery.submit([event])
    assert delivery.flush(20), delivery.stats()
"""


def interpreters():
    """Other Python versions on this machine, where there are any; and this one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(root.glob("3.*/bin/python")) if root.is_dir() else []
    new = [p for p in found if int(p.parts[-3].split(".")[1]) >= 8]
    return [Path(sys.executable), *new]


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: path.parts[-3])
def test_the_sender_in_predict_py_runs_on_python_3_8_and_later(python, tmp_path):
    (tmp_path / "predict.py").write_text(predict_source("1"))
    with LocalSink() as sink:
        words = [tmp_path / "predict.py", sink.url, sink.workspace_id, sink.shared_key, sink.token]
        run = subprocess.run(
            [python, "-c", OLD, *map(str, words), str(tmp_path / "spool.db")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert (len(sink.sentinel_events), len(sink.splunk_events)) == (1, 1)
    assert "Natural Language Processing AI Model Evasion" in sink.splunk_events[0]["RawMessage"]
