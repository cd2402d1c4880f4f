"""Bytes without a pickle's header that the unpickler would execute all the same."""

import pickletools

from modelward.scan.blob import Blob
from modelward.scan.limits import Budget
from modelward.scan.pickle_stream import Stream
from modelward.scan.pickle_walk import walk
from modelward.scan.report import Level

__all__ = ["as_pickle", "is_pickle_text"]

_STARTS = frozenset(bytes([ord(opcode.code)]) for opcode in pickletools.opcodes)


def as_pickle(blob: Blob, budget: Budget) -> tuple[list[str], bool]:
    """What bytes of another format would do where a loader took them for a pickle.

    Returns:
        The names known to do harm up to where the bytes break, and whether a function of a
        plausible name is called: other bytes name something by chance now and then, but they do
        not call it.
    """
    stream = _walked(blob, budget)
    if stream is None:
        return [], False
    harm = [found.full for found in stream.globals.values() if found.level is Level.CRITICAL]
    # no loader gets past a persistent id at the very start, such as the P of a zip archive
    called = blob.read(0, 1) != b"P" and any(_is_plausible(*names) for names in stream.called)
    return harm, called


def is_pickle_text(blob: Blob, budget: Budget) -> bool:
    """Whether bytes without a known start are a pickle of protocol 0 or 1.

    A list of words may start like one by chance, so it takes a whole stream or a call.
    """
    stream = _walked(blob, budget)
    if stream is None:
        return False
    if any(found.level is Level.CRITICAL for found in stream.globals.values()):
        return True
    whole = stream.broken is None and stream.opcodes > 1
    called = any(_is_plausible(*names) for names in stream.called)
    return called or (whole and (bool(stream.globals) or stream.end == blob.size))


def _walked(blob: Blob, budget: Budget) -> Stream | None:
    if blob.read(0, 1) not in _STARTS:
        return None
    with blob.open() as file:
        return walk(file, budget)


def _is_plausible(module: str, name: str) -> bool:
    words = f"{module}.{name}".split(".")
    return all(word.isascii() and word.isidentifier() for word in words)
