"""Makes src/modelward/scan/data/allowed_globals.txt: what a pickled model may name.

Two sources. First, what honest models name: every scikit-learn estimator is fitted on a toy
problem and pickled, and the classes of scikit-learn, numpy and scipy in the streams are kept.
Second, the lists below, each looked at by hand. A function never gets in by itself: those that
honest streams call are printed, and one of them is allowed only by writing it into a list here.

Run it after an upgrade, and read the difference:

    .venv/bin/python tools/allowed_globals.py
"""

import importlib
import inspect
import io
import os
import pickle
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from modelward.scan.limits import Budget, Limits
from modelward.scan.pickle_stream import Stream
from modelward.scan.pickle_walk import walk

os.environ.setdefault("KERAS_BACKEND", "torch")
TARGET = Path(__file__).parents[1] / "src/modelward/scan/data/allowed_globals.txt"
HEADER = """\
# What a pickled model may name. Made by tools/allowed_globals.py; do not edit by hand.
# "name" may be referenced and made with NEWOBJ without arguments, which runs its __new__ only;
# "name()" may be called with any arguments.
"""

CALLABLE = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice "
    "str tuple",
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "__newobj__ __newobj_ex__ _reconstructor",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "_codecs": "encode",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "PosixPath PurePosixPath PureWindowsPath WindowsPath",
    "uuid": "UUID",
    "numpy": "dtype",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy.ma.core": "_mareconstruct",
    "numpy.random.bit_generator": "__pyx_unpickle_SeedSequence",
    "numpy.random": "__RandomState_ctor",
    "numpy.random._pickle": "__bit_generator_ctor __generator_ctor __randomstate_ctor",
    "pandas._libs.arrays": "__pyx_unpickle_NDArrayBacked",
    "pandas._libs.internals": "_unpickle_block __pyx_unpickle_BlockManager",
    "pandas._libs.tslibs.nattype": "_nat_unpickle",
    "pandas._libs.tslibs.timedeltas": "_timedelta_unpickle",
    "pandas._libs.tslibs.timestamps": "_unpickle_timestamp",
    "pandas.core.indexes.base": "_new_Index",
    "pandas.core.internals.managers": "BlockManager SingleBlockManager",
    "pandas.core.indexes.datetimes": "_new_DatetimeIndex",
    "sklearn.neighbors._ball_tree": "newObj",
    "sklearn.neighbors._kd_tree": "newObj",
    "sklearn.neighbors._dist_metrics": "newObj",
    "sklearn.metrics._dist_metrics": "newObj",
    "sklearn._loss._loss": "__pyx_unpickle_CyLossFunction CyAbsoluteError CyExponentialLoss "
    "CyHalfBinomialLoss CyHalfGammaLoss CyHalfPoissonLoss CyHalfSquaredError",
    "sklearn.linear_model._sgd_fast": "EpsilonInsensitive Hinge Huber Log ModifiedHuber "
    "SquaredEpsilonInsensitive SquaredHinge SquaredLoss",
    "torch": "Size device",
    "torch._tensor": "_rebuild_from_type_v2",
    "torch._utils": "_rebuild_meta_tensor_no_storage _rebuild_nested_tensor _rebuild_parameter "
    "_rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_tensor _rebuild_tensor "
    "_rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_wrapper_subclass",
    "torch.jit._pickle": "build_boollist build_doublelist build_intlist build_tensor_from_id "
    "build_tensorlist restore_type_tag",
    "torch.nn.parameter": "Buffer Parameter",
    "torch.serialization": "_get_layout",
    "torch.storage": "_load_from_bytes",
}
"""Functions and values whose call does no harm whatever the arguments; those that load, encode,
allocate, or make a class or a parameter that they are given only with arguments that the walk
checks (``pickle_checks``, ``pickle_making``)."""

DISTANCES = (
    "BrayCurtisDistance CanberraDistance ChebyshevDistance DiceDistance DistanceMetric "
    "EuclideanDistance HammingDistance HaversineDistance JaccardDistance MahalanobisDistance "
    "ManhattanDistance MinkowskiDistance RogersTanimotoDistance RussellRaoDistance "
    "SEuclideanDistance SokalMichenerDistance SokalSneathDistance"
)
"""Not PyFuncDistance, which calls a function out of the pickle."""

REFERENCED = {
    "argparse": "Namespace",
    "joblib.numpy_pickle": "NumpyArrayWrapper",
    "lightgbm.basic": "Booster",
    "lightgbm.sklearn": "LGBMClassifier LGBMModel LGBMRanker LGBMRegressor",
    "numpy": "floating generic inexact integer number signedinteger unsignedinteger "
    "bool bool_ bytes_ complex128 complex64 datetime64 float16 float32 float64 int16 "
    "int32 int64 int8 intc longlong matrix ndarray object_ recarray record str_ timedelta64 uint16 "
    "uint32 uint64 uint8 ulonglong "
    "abs absolute add arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh exp exp2 "
    "expm1 floor log log10 log1p log2 max mean median min multiply negative "
    "reciprocal sign sin sinh sqrt square subtract sum tan tanh",
    "numpy.ma.core": "MaskedArray",
    "numpy.random": "Generator RandomState",
    "numpy.rec": "recarray record",
    "numpy.random._generator": "Generator",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64 PCG64DXSM",
    "numpy.random._philox": "Philox",
    "numpy.random._sfc64": "SFC64",
    "numpy.random.bit_generator": "SeedSequence",
    "numpy.random.mtrand": "RandomState",
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
    "pandas": "Categorical CategoricalDtype CategoricalIndex DataFrame DatetimeIndex Index "
    "IntervalIndex MultiIndex PeriodIndex RangeIndex Series StringDtype TimedeltaIndex",
    "pandas.arrays": "BooleanArray DatetimeArray FloatingArray IntegerArray NumpyExtensionArray "
    "StringArray TimedeltaArray",
    "pandas._libs.tslibs.timestamps": "Timestamp",
    "pandas.core.arrays.categorical": "Categorical",
    "pandas.core.arrays.string_": "StringArray StringDtype",
    "pandas.core.arrays.numpy_": "NumpyExtensionArray",
    "pandas.core.dtypes.dtypes": "CategoricalDtype",
    "pandas.core.frame": "DataFrame",
    "pandas.core.indexes.base": "Index",
    "pandas.core.indexes.category": "CategoricalIndex",
    "pandas.core.indexes.datetimes": "DatetimeIndex",
    "pandas.core.indexes.multi": "MultiIndex",
    "pandas.core.indexes.numeric": "Float64Index Int64Index UInt64Index",
    "pandas.core.indexes.range": "RangeIndex",
    "pandas.core.series": "Series",
    **{
        f"scipy.sparse{dot}{kind}": f"{kind}_array {kind}_matrix"
        for kind in ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
        for dot in (".", "._")
    },
    "sklearn.compose._column_transformer": "_RemainderColsList make_column_selector",
    "sklearn.ensemble._gb_losses": "BinomialDeviance ExponentialLoss HuberLossFunction "
    "LeastAbsoluteError LeastSquaresError MultinomialDeviance QuantileLossFunction",
    "sklearn.metrics._dist_metrics": DISTANCES + " " + re.sub(r"(?<=Distance)\b", "64", DISTANCES),
    "sklearn.neighbors._ball_tree": "BallTree",
    "sklearn.neighbors._dist_metrics": DISTANCES,
    "sklearn.cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
    "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
    "sklearn.feature_selection._univariate_selection": "chi2 f_classif f_oneway f_regression "
    "r_regression",
    "sklearn.metrics._classification": "accuracy_score balanced_accuracy_score f1_score log_loss "
    "precision_score recall_score",
    "sklearn.metrics._ranking": "average_precision_score roc_auc_score",
    "sklearn.metrics._regression": "max_error mean_absolute_error mean_squared_error r2_score "
    "root_mean_squared_error",
    "torch": "BFloat16Storage BoolStorage ByteStorage CharStorage ComplexDoubleStorage "
    "ComplexFloatStorage DoubleStorage FloatStorage HalfStorage IntStorage LongStorage "
    "QInt32Storage QInt8Storage QUInt8Storage ShortStorage Tensor "
    "bfloat16 bool cfloat channels_last complex128 complex32 complex64 contiguous_format double "
    "float float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu "
    "float16 float32 float64 half int int16 int32 int64 int8 long per_channel_affine "
    "per_tensor_affine preserve_format qint32 qint8 quint8 short sparse_coo sparse_csr strided "
    "uint16 uint32 uint64 uint8",
    "torch._tensor": "Tensor",
    "torch.nn.functional": "celu elu gelu glu hardtanh leaky_relu log_softmax mish relu relu6 selu "
    "sigmoid silu softmax softplus tanh",
    "torch.nn.modules.linear": "NonDynamicallyQuantizableLinear",
    "torch.storage": "TypedStorage UntypedStorage _TypedStorage _UntypedStorage",
    "torch._C._nn": "gelu",
    "xgboost.compat": "XGBoostLabelEncoder",
    "xgboost.core": "Booster",
    "xgboost.sklearn": "XGBClassifier XGBModel XGBRFClassifier XGBRFRegressor XGBRanker "
    "XGBRegressor",
}

MODULES = (
    r"sklearn(\.\w+)+",
    r"numpy(\._?core|\.ma|\.random)?(\.\w+)*",
    r"scipy\.(sparse|interpolate|spatial)(\.\w+)*",
)
"""Where classes in honest streams may come from. Not scipy.stats: unpickling a distribution
compiles text from the stream."""

NEVER = {"numpy": {"memmap"}, "numpy.core.memmap": {"memmap"}, "numpy._core.memmap": {"memmap"}}


def walked(stream: bytes) -> Stream:
    """Names in an honest stream, and how they are used."""
    return walk(io.BytesIO(stream), Budget(Limits()))


def estimators() -> Iterator[object]:
    """Every scikit-learn estimator, fitted where a toy problem is enough."""
    from sklearn.base import clone
    from sklearn.datasets import make_classification
    from sklearn.utils import all_estimators
    from sklearn.utils._test_common.instance_generator import _construct_instances

    x, y = make_classification(60, 6, random_state=0)
    for _, kind in all_estimators():
        try:
            instances = list(_construct_instances(kind))
        except Exception as error:
            print(f"not made: {kind.__name__} ({error})")
            continue
        for instance in instances:
            yield instance
            for inputs in ((x, y), (abs(x), y), (x, abs(x)), (["some text", "more"], [0, 1])):
                try:
                    yield clone(instance).fit(*inputs)
                    break
                except Exception:  # noqa: S112 - the next toy problem may fit
                    continue


def torch_modules() -> Iterator[tuple[str, str]]:
    """Layers of PyTorch, for models that were pickled whole."""
    import torch

    for module in torch.nn.__dict__.values():
        if inspect.isclass(module) and issubclass(module, torch.nn.Module):
            yield module.__module__, module.__qualname__


def sklearn_internals() -> Iterator[tuple[str, str]]:
    """Classes that estimators hold depending on their options: losses, kernels, scorers."""
    for name in (
        "sklearn._loss.link", "sklearn._loss.loss", "sklearn.gaussian_process.kernels",
        "sklearn.model_selection._split", "sklearn.metrics._scorer", "sklearn.utils._bunch",
        "sklearn.ensemble._hist_gradient_boosting.binning",
        "sklearn.ensemble._hist_gradient_boosting.predictor", "sklearn.tree._tree",
        "sklearn.neural_network._stochastic_optimizers",
    ):  # fmt: skip
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == name:
                yield name, key
    from sklearn._loss import _loss

    for key in vars(_loss):
        if key.startswith(("Cy", "__pyx_unpickle_Cy")):
            yield "sklearn._loss._loss", key


def main() -> None:
    """Harvest, print what was left out, write the file."""
    warnings.simplefilter("ignore")
    from sklearn.utils import all_estimators

    found = {(kind.__module__, kind.__qualname__) for _, kind in all_estimators()}
    found.update(torch_modules())
    found.update(sklearn_internals())
    called, left_out = set(), set()
    for instance in estimators():
        try:
            stream = walked(pickle.dumps(instance))
        except Exception as error:
            print(f"not pickled: {type(instance).__name__} ({error})")
            continue
        for module, name in stream.globals:
            value = getattr(importlib.import_module(module), name, None)
            inside = any(re.fullmatch(pattern, module) for pattern in MODULES)
            restores = inspect.isclass(value) or name.startswith("__pyx_unpickle_")
            if inside and restores and name not in NEVER.get(module, ()):
                found.add((module, name))
                if (module, name) in stream.reduced:
                    called.add((module, name))
            else:
                left_out.add((module, name))
    table = tabulate(found, called)
    lines = [f"{module}: {' '.join(sorted(table[module]))}" for module in sorted(table)]
    TARGET.write_text(HEADER + "\n".join(lines) + "\n")
    missing = [f"{m}.{n}" for m, n in sorted(left_out) if not table[m] & {n, f"{n}()"}]
    print("named by honest streams and left out:", *missing, sep="\n  ")
    print(f"{sum(map(len, table.values()))} names in {len(table)} modules")


def tabulate(
    found: set[tuple[str, str]], called: set[tuple[str, str]]
) -> defaultdict[str, set[str]]:
    """Harvest and lists together, by module."""
    table: defaultdict[str, set[str]] = defaultdict(set)
    for module, name in found:
        for alias in aliases(module):
            restores = (module, name) in called or name.startswith("__pyx_unpickle_")
            table[alias].add(f"{name}()" if restores else name)
    for module, names in REFERENCED.items():
        table[module].update(names.split())
    for module, names in CALLABLE.items():
        for name in names.split():
            table[module].discard(name)
            table[module].add(f"{name}()")
    return table


def aliases(module: str) -> set[str]:
    """A module under the names that other versions of its library give it."""
    names = {module}
    if module.startswith("sklearn.") and "._" in module:
        names.add(module.replace("._", "."))  # before 0.22
    if module.startswith("numpy._core"):
        names.add(module.replace("numpy._core", "numpy.core", 1))
    if module.startswith("scipy.sparse._"):
        names.add(module.replace("._", "."))
    return names


if __name__ == "__main__":
    main()
