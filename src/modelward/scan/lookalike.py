"""Bytes without a pickle's header that the unpickler would execute all the same."""

import pickletools

from modelward.scan.blob import Blob
from modelward.scan.limits import Budget
from modelward.scan.pickle_walk import walk
from modelward.scan.report import Level

__all__ = ["is_pickle_text", "names_that_do_harm"]

_STARTS = frozenset(bytes([ord(opcode.code)]) for opcode in pickletools.opcodes)


def names_that_do_harm(blob: Blob, budget: Budget) -> list[str]:
    """What the bytes, executed as a pickle, would name up to where they break.

    Only names known to do harm: other bytes name something by chance now and then.
    """
    if blob.read(0, 1) not in _STARTS:
        return []
    with blob.open() as file:
        stream = walk(file, budget)
    return [found.full for found in stream.globals.values() if found.level is Level.CRITICAL]


def is_pickle_text(blob: Blob, budget: Budget) -> bool:
    """Whether bytes without a known start are a pickle of protocol 0 or 1.

    A list of words may start like one by chance, so it takes a whole stream or a call.
    """
    if blob.read(0, 1) not in _STARTS:
        return False
    with blob.open() as file:
        stream = walk(file, budget)
    if any(found.level is Level.CRITICAL for found in stream.globals.values()):
        return True
    whole = stream.broken is None and stream.opcodes > 1
    return stream.calls > 0 or (whole and (bool(stream.globals) or stream.end == blob.size))
