"""The walk against the unpicklers themselves, on streams that nobody would write.

Whatever either unpickler of the standard library looks up before it fails, the walk must have
seen. They run on harmless stand-ins: no global is imported, nothing is called.
"""

import io
import pickle
import random
from typing import Any

import numpy as np
import pytest

from modelward.scan.limits import Budget, Limits
from modelward.scan.pickle_names import effective
from modelward.scan.pickle_walk import walk


class Anything:
    """Stands for every class, function and object."""

    def __new__(cls, *args: object, **kwargs: object) -> "Anything":
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass


def recording(base: Any) -> Any:
    class Recorder(base):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO) -> None:
            super().__init__(file, encoding="latin-1")
            self.found: list[tuple[str, str]] = []

        def find_class(self, module: str, name: str) -> Any:
            self.found.append((module, name))
            return Anything

        def persistent_load(self, key: object) -> object:
            return key

        def get_extension(self, code: int) -> None:
            raise pickle.UnpicklingError("no registry here")

    return Recorder


def seeds() -> list[bytes]:
    values: list[Any] = [
        {"a": np.arange(3), "b": np.float64(1), "c": [1, (2, "x"), {3}, b"bytes", None, True]},
        [Anything(), Anything, {"k": Anything()}],
        np.zeros(2, [("a", "f4")]),
    ]
    streams = [pickle.dumps(value, protocol) for value in values for protocol in range(6)]
    streams += [
        b"(lp0\ng0\n(dp1\nVname\nI01\nsaF1.5\na.",
        b"cmod\nname\n(I1\nVx\ntRp0\n(g0\nimod2\nother\np1\n}(Vk\ng1\nub.",
        b"\x80\x04\x8c\x03mod\x94\x8c\x04name\x94\x93\x94h\x00h\x01\x93h\x02)\x81}b.",
        b"\x80\x02(cmod\nname\nK\x01o(K\x02K\x03tR2q\x05h\x05j\x05\x00\x00\x000.",
        b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x03mod\x8c\x04name\x93(K\x01t}\x92P1\nQ.",
    ]
    return streams


OPCODES = b"(.012FGIJKLMNPQRSTUVX\x80]abcde}giohjlpqrstu)\x81\x82\x85\x86\x87\x88\x89\x8a\x8b" \
    b"BC\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98"  # fmt: skip


def mutate(dice: random.Random, stream: bytes) -> bytes:
    content = bytearray(stream)
    for _ in range(dice.randrange(1, 6)):
        at = dice.randrange(len(content) + 1)
        kind = dice.randrange(4)
        if kind == 0:
            content[at:at] = bytes([dice.choice(OPCODES)])
        elif kind == 1 and at < len(content):
            content[at] = dice.choice(OPCODES)
        elif kind == 2 and at < len(content):
            del content[at]
        else:
            other = dice.randrange(len(content) + 1)
            part = content[min(at, other) : max(at, other)][:20]
            content[at:at] = part
    # BYTEARRAY8 and LONG_BINPUT of a large number make the unpickler itself fill the memory
    return bytes(content).replace(b"\x96", b"N").replace(b"r", b"N")


@pytest.mark.parametrize("base", [pickle.Unpickler, pickle._Unpickler])  # type: ignore[attr-defined]
def test_the_walk_misses_nothing(base: Any):
    dice = random.Random(7)
    start = seeds()
    looked_up = 0
    for _ in range(2500):
        stream = mutate(dice, dice.choice(start))
        reader = recording(base)(io.BytesIO(stream))
        try:
            reader.load()
            whole = True
        except Exception:
            whole = False
        found = walk(io.BytesIO(stream), Budget(Limits()))
        made_up = any(alarm.rule == "MW-PKL-003" for alarm in found.alarms)
        for module, name in reader.found:
            looked_up += 1
            names = {(module, name), effective(module, name, 2)}
            # a name out of a call or a persistent id cannot be told, and is critical itself
            assert names & set(found.globals) or made_up, (stream, reader.found, found)
        if whole:
            assert found.broken is None, (stream, found)
    assert looked_up > 500
