"""Whatever bytes come, a reader of uploads reads them or refuses them, soon."""

import os
import warnings

import pytest
from hostile_inputs import (
    configs,
    csvs,
    hostile_zips,
    images,
    mutated,
    payloads,
    watched,
)
from hostile_opcodes import hostile_pickles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS, keras_zip, refused, zipped

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))
"""``make fuzz`` looks at more examples, and at others each time."""


def examples(count: int) -> settings:
    return settings(
        max_examples=count * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def look(reader: str, content: bytes) -> None:
    with watched(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        message = refused(READERS[reader], content)
    assert message is None or len(message) < 4000


@pytest.mark.parametrize("reader", sorted(READERS))
@examples(60)
@given(st.one_of(st.binary(max_size=400), mutated()))
def test_any_bytes(reader: str, content: bytes):
    look(reader, content)


@pytest.mark.parametrize("reader", ["zip", "labels", "gate", "scan"])
@examples(80)
@given(hostile_zips())
def test_archives_whose_records_contradict_each_other(reader: str, content: bytes):
    look(reader, content)


@examples(200)
@given(csvs())
def test_label_tables(content: bytes):
    look("csv", content)


@examples(40)
@given(csvs(), st.lists(st.tuples(st.sampled_from(["0.png", "a/0.png", "b/0.png"]), images())))
def test_uploads_as_a_whole(table: bytes, pictures: list[tuple[str, bytes]]):
    members = {"label.csv": table, "model.h5": b"x", **dict(pictures)}
    look("gate", zipped(members))


@examples(200)
@given(images())
def test_image_headers(content: bytes):
    look("image", content)


@examples(150)
@given(configs())
def test_model_configurations(content: bytes):
    look("config", content)


@examples(30)
@given(configs())
def test_model_configurations_are_scanned(content: bytes):
    look("scan", keras_zip(content))


@examples(150)
@given(payloads())
def test_parameters(content: bytes):
    look("payload", content)


@examples(150)
@given(hostile_pickles())
def test_pickles_are_walked_and_never_cleared(content: bytes):
    look("pickle", content)
