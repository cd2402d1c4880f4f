"""JSON as the services read it: UTF-8, no NaN, one value or several in a row."""

import json
import re
from typing import Any, NoReturn

__all__ = ["parse", "parse_many"]

SPACE = re.compile(r"[ \t\r\n]*")


def refuse(text: str) -> NoReturn:
    """No NaN and no infinity: they are no JSON."""
    raise ValueError(f"{text} is no JSON")


DECODER = json.JSONDecoder(parse_constant=refuse)


def parse(body: bytes) -> Any:
    """One JSON value.

    Raises:
        ValueError: It is no UTF-8 or no JSON.
    """
    return json.loads(text_of(body), parse_constant=refuse)


def parse_many(body: bytes) -> tuple[list[Any], str]:
    """JSON values in a row, with or without white space in between.

    Returns:
        The values read, and what stopped the reading (nothing at the end of the text).
    """
    try:
        text = text_of(body)
    except ValueError as error:
        return [], str(error)
    values: list[Any] = []
    at = 0
    while True:
        space = SPACE.match(text, at)
        at = space.end() if space else at
        if at == len(text):
            return values, ""
        try:
            value, at = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            return values, str(error)
        values.append(value)


def text_of(body: bytes) -> str:
    """UTF-8, strictly."""
    return body.decode("utf-8")
