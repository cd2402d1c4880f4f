"""Reading the analysis payload of image extraction."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelward.domain import (
    Access,
    AttackType,
    ImageExtractionConfig,
    InvalidInputError,
    InvalidParameterError,
    ModelwardError,
    parse_image_extraction,
)

NOTEBOOK = {
    "use_model_api": "no",
    "model_api_details": "no",
    "normalize_data": "Yes",
    "input_dimensions": "(28, 28, 1)",
    "number_of_classes": "10",
    "attack_type": "blackbox",
    "number_of_attack_queries": 20000,
    "model_framework": "tensorflow",
    "vulnerability_threshold": "0",
    "defense_bestonly": "no",
    "encryption_strategy": 0,
    "color_space": "bgr",
}
MINIMAL = {"input_dimensions": [28, 28, 1], "number_of_classes": 10}
COLOR = {"input_dimensions": "(32, 32, 3)", "number_of_classes": 10}


def parse(**changes: object) -> ImageExtractionConfig:
    return parse_image_extraction({**MINIMAL, **changes})


def test_notebook_payload():
    config = parse_image_extraction({**NOTEBOOK, "model_id": "x", "unknown": {"a": [1]}})
    assert config == ImageExtractionConfig(
        input_shape=(28, 28, 1),
        number_of_classes=10,
        attack_type=AttackType.BLACKBOX,
        number_of_attack_queries=20000,
        vulnerability_threshold=0.0,
        normalize_data=True,
        color_space="gray",
        model_framework="tensorflow",
        access=Access.LABELS,
        seed=42,
        defense_best_only=False,
    )


def test_client_payload_and_defaults():
    client = {**MINIMAL, "model_api_details": "", "vulnerability_threshold": 1}
    client["number_of_attack_queries"] = 200
    config = parse_image_extraction(client)
    assert (config.vulnerability_threshold, config.number_of_attack_queries) == (1.0, 200)
    assert parse().number_of_attack_queries == 20_000
    assert parse(access=None, seed="", normalize_data=" ").normalize_data is True


@pytest.mark.parametrize(
    "spelling",
    ["(28, 28, 1)", "28,28,1", "[28,28,1]", " ( 28,28 , 1, ) ", [28, 28, 1], ["28", 28.0, "1"],
     "28x28x1", (28, 28, 1)],
)  # fmt: skip
def test_input_dimensions(spelling: object):
    assert parse(input_dimensions=spelling).input_shape == (28, 28, 1)


@pytest.mark.parametrize(
    "spelling",
    ["(28, 28)", "28", 28, "(28, 28, 2)", "(0, 28, 1)", "(-28, 28, 1)", "(28, 28, 1, 1)",
     "(1e3, 28, 1)", "(99999, 28, 1)", [28, 28, True], [[28], 28, 1], "(２８, 28, 1)", {"h": 28},
     "9" * 100_000, [10**5000, 28, 1], float("nan"), "\ud800"],
)  # fmt: skip
def test_input_dimensions_refused(spelling: object):
    with pytest.raises(InvalidParameterError, match=r"input_dimensions: expected .*channels.*got"):
        parse(input_dimensions=spelling)


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("number_of_classes", "10", "number_of_classes", 10),
        ("number_of_classes", 10.0, "number_of_classes", 10),
        ("number_of_attack_queries", "1", "number_of_attack_queries", 1),
        ("number_of_attack_queries", 1_000_000, "number_of_attack_queries", 1_000_000),
        ("vulnerability_threshold", "1", "vulnerability_threshold", 1.0),
        ("vulnerability_threshold", "0.25", "vulnerability_threshold", 0.25),
        ("vulnerability_threshold", 1.0, "vulnerability_threshold", 1.0),
        ("normalize_data", "NO", "normalize_data", False),
        ("normalize_data", False, "normalize_data", False),
        ("normalize_data", "yes", "normalize_data", True),
        ("attack_type", "Blackbox", "attack_type", AttackType.BLACKBOX),
        ("attack_type", "Grey box", "attack_type", AttackType.GREYBOX),
        ("attack_type", "gray_box", "attack_type", AttackType.GREYBOX),
        ("access", "Probabilities", "access", Access.PROBABILITIES),
        ("seed", "7", "seed", 7),
        ("model_framework", "Tensorflow", "model_framework", "tensorflow"),
        ("model_framework", "Keras", "model_framework", "keras"),
        ("defense_bestonly", "yes", "defense_best_only", True),
        ("defense_best_only", True, "defense_best_only", True),
        ("use_model_api", "No", "number_of_classes", 10),
        ("use_model_api", False, "number_of_classes", 10),
        ("model_api_details", "na", "number_of_classes", 10),
        ("encryption_strategy", "0", "number_of_classes", 10),
    ],
)
def test_spellings(key: str, value: object, field: str, expected: object):
    assert getattr(parse(**{key: value}), field) == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("number_of_classes", 1, r"number_of_classes: expected an integer from 2 to .*; got 1"),
        ("number_of_classes", True, r"number_of_classes: .*got True"),
        ("number_of_classes", "ten", r"number_of_classes: .*got 'ten'"),
        ("number_of_classes", 10.5, r"number_of_classes: .*got 10.5"),
        ("number_of_classes", float("inf"), r"number_of_classes: .*got inf"),
        ("number_of_attack_queries", 0, r"from 1 to 1000000; got 0"),
        ("number_of_attack_queries", 1_000_001, r"from 1 to 1000000; got 1000001"),
        pytest.param(
            "number_of_attack_queries", 10**5000, r"number_of_attack_queries: .*type int", id="huge"
        ),
        ("vulnerability_threshold", 1.01, r"vulnerability_threshold: expected a number from 0"),
        ("vulnerability_threshold", "-0.1", r"vulnerability_threshold: .*'-0.1'"),
        ("vulnerability_threshold", float("nan"), r"vulnerability_threshold: .*got nan"),
        ("vulnerability_threshold", "nan", r"vulnerability_threshold: .*got 'nan'"),
        pytest.param(
            "vulnerability_threshold", 10**5000, r"vulnerability_threshold: .*type int", id="huge"
        ),
        ("vulnerability_threshold", True, r"vulnerability_threshold: .*got True"),
        ("normalize_data", "maybe", r"normalize_data: expected yes or no; got 'maybe'"),
        ("attack_type", "whitebox", r"attack_type: expected one of blackbox, greybox"),
        ("access", "gradients", r"access: expected one of labels, probabilities; got 'gradients'"),
        ("seed", -1, r"seed: expected an integer from 0"),
        ("color_space", "hsv", r"color_space: expected one of rgb, bgr, gray"),
        ("encryption_strategy", 2, r"encryption_strategy: expected 0 .*or 1 .*; got 2"),
        ("encryption_strategy", "x", r"encryption_strategy: expected 0 .*or 1 .*; got 'x'"),
        ("use_model_api", "Yes", r"use_model_api: yes .*not supported yet"),
        ("use_model_api", "perhaps", r"use_model_api: expected yes or no"),
        ("model_framework", "onnx", r"model_framework: 'onnx' is not supported yet.*tensorflow"),
        ("model_framework", ["tf"], r"model_framework: \['tf'\] is not supported"),
    ],
)
def test_values_refused(key: str, value: object, message: str):
    with pytest.raises(InvalidParameterError, match=message):
        parse_image_extraction({**COLOR, key: value})


@pytest.mark.parametrize(
    ("value", "strategy"), [(0, 0), ("0", 0), ("no", 0), (None, 0), (1, 1), ("1", 1), ("Yes", 1)]
)
def test_encryption_strategy(value: object, strategy: int):
    config = parse_image_extraction({**COLOR, "encryption_strategy": value})
    assert config.encryption_strategy == strategy


@pytest.mark.parametrize("name", ["scikit-learn", "sklearn", "Scikit_Learn"])
def test_frameworks_of_pickled_models(name: str):
    config = parse_image_extraction({**COLOR, "model_framework": name})
    assert config.model_framework == "scikit-learn"


def test_color_space():
    assert parse_image_extraction(COLOR).color_space is None
    assert parse_image_extraction({**COLOR, "color_space": "BGR"}).color_space == "bgr"
    assert parse_image_extraction({**COLOR, "color_space": "no"}).color_space is None
    with pytest.raises(InvalidParameterError, match=r"color_space: expected rgb or bgr"):
        parse_image_extraction({**COLOR, "color_space": "gray"})


@pytest.mark.parametrize("gone", ["input_dimensions", "number_of_classes"])
def test_missing_parameters(gone: str):
    for absent in ({}, {gone: None}, {gone: ""}):
        payload = {key: value for key, value in NOTEBOOK.items() if key != gone} | absent
        with pytest.raises(InvalidInputError, match=f"missing {gone}"):
            parse_image_extraction(payload)


@pytest.mark.parametrize("payload", [None, [], "x", 3, [MINIMAL]])
def test_payload_that_is_no_object(payload: object):
    with pytest.raises(InvalidInputError, match="expected a JSON object"):
        parse_image_extraction(payload)  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    | st.sampled_from(["yes", "no", "0", "1", "28,28,1", "(3,3,3)", "bgr", "1e400", "١٠"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)  # fmt: skip


# a busy machine is no failure
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*NOTEBOOK, "access", "seed", "defense_best_only"]), JSON))
def test_any_value_parses_or_is_refused(changes: dict[str, object]):
    try:
        config = parse_image_extraction({**MINIMAL, **changes})
    except ModelwardError as error:
        assert error.status in (400, 412)
        assert len(error.message) < 500
        error.message.encode()  # no lone surrogates
    else:
        assert 1 <= config.number_of_attack_queries <= 1_000_000
        assert 0.0 <= config.vulnerability_threshold <= 1.0
        assert config.input_shape[2] in (1, 3)
