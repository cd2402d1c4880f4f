"""Parameters of an analysis, read from the many spellings that clients send."""

import math
import re
import reprlib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from modelward.domain.errors import InvalidInputError, InvalidParameterError
from modelward.domain.taxonomy import Access, AttackType

__all__ = ["LEAST_FOR_DEFENSE", "ImageExtractionConfig", "parse_image_extraction"]

MAX_SIDE = 2048
MAX_CLASSES = 10_000
MAX_QUERIES = 1_000_000
MAX_SEED = 2**32 - 1
LEAST_FOR_DEFENSE = 10
"""Images, and queries, without which no detector can be trained and measured."""
MAX_TEXT = 200
"""Longer texts are refused before they are parsed; no sane value comes near."""

_T = TypeVar("_T")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})([eE][+-]?[0-9]{1,2})?")
_UNUSED = frozenset({"", "no", "na", "n/a", "none", "null"})
_YES = frozenset({"yes", "y", "true", "1"})
_NO = _UNUSED | {"n", "false", "0"}
_FRAMEWORKS = {
    "tensorflow": "tensorflow",
    "tf": "tensorflow",
    "keras": "keras",
    "scikitlearn": "scikit-learn",
    "sklearn": "scikit-learn",
    "xgboost": "xgboost",
}
_ATTACKS = {
    "blackbox": AttackType.BLACKBOX,
    "greybox": AttackType.GREYBOX,
    "graybox": AttackType.GREYBOX,
}
_ACCESS = {"labels": Access.LABELS, "probabilities": Access.PROBABILITIES}
_COLORS = {
    "rgb": "rgb",
    "bgr": "bgr",
    "gray": "gray",
    "grey": "gray",
    "grayscale": "gray",
    "greyscale": "gray",
}


class ImageExtractionConfig(BaseModel):
    """Model extraction of an image classifier; every value is checked and typed."""

    model_config = ConfigDict(frozen=True)

    input_shape: tuple[int, int, int]
    """Height, width, channels of one image; channels is 1 or 3."""
    number_of_classes: int
    """At least 2."""
    attack_type: AttackType = AttackType.BLACKBOX
    """Whether the uploaded images may seed the queries (grey box) or not (black box)."""
    number_of_attack_queries: int = 20_000
    """Query budget, 1 to 1,000,000; the target refuses query N + 1."""
    vulnerability_threshold: float = 0.0
    """0 always makes a defence, 1 never, otherwise where the score exceeds it."""
    normalize_data: bool = True
    """True: the model takes pixels in [0, 1]. False: it takes 0 to 255."""
    color_space: str | None = None
    """Channel order that the model takes: rgb, bgr or gray (always gray where there is one
    channel); None: found out by accuracy."""
    model_framework: str = "tensorflow"
    """``tensorflow``, ``keras``, ``scikit-learn`` or ``xgboost``; the archive decides."""
    encryption_strategy: int = 0
    """0: a plain model file. 1: ``base_model.pyc`` with weights, run in the sandbox."""
    access: Access = Access.LABELS
    """What the attacker sees of each answer."""
    seed: int = 42
    """Seed of everything random in the job."""
    defense_best_only: bool = False
    """Accepted for compatibility; one detector is made either way."""


def parse_image_extraction(payload: Mapping[str, Any]) -> ImageExtractionConfig:
    """Read the analysis payload of image classification + extraction.

    Takes every spelling that existing clients send (numbers as text, ``"(28, 28, 1)"``,
    ``"Yes"``, ``"Blackbox"``); unknown keys are ignored. None and the empty text count as absent.

    Args:
        payload: The parsed JSON object.

    Returns:
        The checked parameters.

    Raises:
        InvalidInputError: The payload is no object, or a required parameter is missing (400).
        InvalidParameterError: A value is not allowed or not supported yet (412); the message
            names the parameter, what was expected and what came.
    """
    if not isinstance(payload, Mapping):
        raise InvalidInputError(f"analysis payload: expected a JSON object; got {_show(payload)}")
    missing = [
        key for key in ("input_dimensions", "number_of_classes") if _get(payload, key) is None
    ]
    if missing:
        raise InvalidInputError(
            f"analysis payload: missing {' and '.join(missing)}; expected for example "
            '{"input_dimensions": "(28, 28, 1)", "number_of_classes": 10}'
        )
    _refuse_unsupported(payload)
    shape = _shape(_get(payload, "input_dimensions"))
    values: dict[str, Any] = {
        "input_shape": shape,
        "number_of_classes": _integer(payload, "number_of_classes", 2, MAX_CLASSES),
        "attack_type": _choice(payload, "attack_type", _ATTACKS),
        "number_of_attack_queries": _integer(payload, "number_of_attack_queries", 1, MAX_QUERIES),
        "vulnerability_threshold": _fraction(payload, "vulnerability_threshold"),
        "normalize_data": _flag(payload, "normalize_data"),
        "color_space": _color_space(payload, shape[2]),
        "model_framework": _choice(payload, "model_framework", _FRAMEWORKS),
        "encryption_strategy": _encryption(payload),
        "access": _choice(payload, "access", _ACCESS),
        "seed": _integer(payload, "seed", 0, MAX_SEED),
        "defense_best_only": _flag(payload, "defense_bestonly", "defense_best_only"),
    }
    return ImageExtractionConfig(**{k: v for k, v in values.items() if v is not None})


def _show(value: object) -> str:
    """A short, always printable picture of a value of any type and size."""
    try:
        return reprlib.repr(value)
    except Exception:  # an int of more than 4300 digits has no text form
        return f"a value of type {type(value).__name__}"


def _refuse(name: str, expected: str, value: object) -> InvalidParameterError:
    return InvalidParameterError(f"{name}: expected {expected}; got {_show(value)}")


def _get(payload: Mapping[str, Any], *names: str) -> Any:
    """The first value that is present; None and blank text count as absent."""
    for name in names:
        value = payload.get(name)
        if value is not None and not (isinstance(value, str) and not value.strip()):
            return value
    return None


def _word(value: object) -> str | None:
    """Lower-case text of a word-like value, or None where it is not one."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value in (0, 1):
        return str(value)
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        return value.strip().lower()
    return None


def _as_integer(value: object) -> int | None:
    """The integer that a number or its text stands for, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else None
    if isinstance(value, str) and len(value) <= MAX_TEXT and _INTEGER.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    return None


def _integer(payload: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = _get(payload, name)
    if value is None:
        return None
    number = _as_integer(value)
    if number is None or not low <= number <= high:
        raise _refuse(name, f"an integer from {low} to {high}", value)
    return number


def _fraction(payload: Mapping[str, Any], name: str) -> float | None:
    value = _get(payload, name)
    if value is None:
        return None
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        # compare before converting: float() of a huge integer overflows
        number = float(value) if 0 <= value <= 1 else math.nan
    elif isinstance(value, str) and len(value) <= MAX_TEXT and _NUMBER.fullmatch(value.strip()):
        number = float(value)
    if not 0.0 <= number <= 1.0:
        raise _refuse(name, "a number from 0 (always make a defence) to 1 (never)", value)
    return number


def _flag(payload: Mapping[str, Any], *names: str) -> bool | None:
    value = _get(payload, *names)
    if value is None:
        return None
    word = _word(value)
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise _refuse(names[0], "yes or no", value)


def _choice(payload: Mapping[str, Any], name: str, known: Mapping[str, _T]) -> _T | None:
    value = _get(payload, name)
    if value is None:
        return None
    word = re.sub(r"[\s_-]", "", _word(value) or "")
    if word not in known:
        raise _refuse(name, f"one of {', '.join(known)}", value)
    return known[word]


def _color_space(payload: Mapping[str, Any], channels: int) -> str | None:
    value = _get(payload, "color_space")
    if value is None or _word(value) in _UNUSED:
        return "gray" if channels == 1 else None
    order = _choice(payload, "color_space", _COLORS)
    if channels == 1:  # notebooks send bgr for gray images too; order means nothing there
        return "gray"
    if order == "gray":
        raise _refuse("color_space", "rgb or bgr, because input_dimensions has 3 channels,", value)
    return order


def _encryption(payload: Mapping[str, Any]) -> int | None:
    value = _get(payload, "encryption_strategy")
    if value is None:
        return None
    word, number = _word(value), _as_integer(value)
    if word in _NO or number == 0:
        return 0
    if word in _YES or number == 1:
        return 1
    raise _refuse("encryption_strategy", "0 (plain) or 1 (base_model.pyc with weights)", value)


def _shape(value: object) -> tuple[int, int, int]:
    expected = (
        '"(height, width, channels)", for example "(28, 28, 1)", with sides from 1 to '
        f"{MAX_SIDE} and 1 or 3 channels"
    )
    parts: list[object]
    if isinstance(value, str) and len(value) <= MAX_TEXT:
        inner = re.sub(r"^\s*[(\[]|[)\]]\s*$", "", value).strip().removesuffix(",")
        parts = [*re.split(r"\s*[,xX]\s*", inner)]
    elif isinstance(value, list | tuple):
        parts = list(value[:4])
    else:
        raise _refuse("input_dimensions", expected, value)
    numbers = [_as_integer(part) for part in parts]
    match numbers:
        case [int(height), int(width), int(channels)] if (
            0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and channels in (1, 3)
        ):
            return height, width, channels
    raise _refuse("input_dimensions", expected, value)


def _refuse_unsupported(payload: Mapping[str, Any]) -> None:
    """Say plainly which parts of the contract are not served yet."""
    if _flag(payload, "use_model_api"):
        raise InvalidParameterError(
            "use_model_api: yes (a hosted model) is not supported yet; expected no, with the model "
            "in model.zip"
        )
    framework = _get(payload, "model_framework")
    word = re.sub(r"[\s_-]", "", _word(framework) or "") if framework is not None else "tensorflow"
    if word not in _FRAMEWORKS:
        raise InvalidParameterError(
            f"model_framework: {_show(framework)} is not supported yet for image classification; "
            "expected tensorflow, keras, scikit-learn or xgboost"
        )
