"""What a Keras model may consist of, checked in its configuration before anything is built.

A Keras file names the classes and functions that its loading calls; Keras' own safe mode has been
passed by more than once (CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2026-1462), and some
parts read files or addresses (CVE-2025-12058). Here nothing passes that is not on a list of
standard parts which neither run code from the file nor read other files.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from modelward.domain import AssessmentError
from modelward.scan.pickle_names import judge
from modelward.scan.report import Level

__all__ = ["MAX_CONFIG_BYTES", "Problem", "check_config", "parse_config", "problems"]

MAX_CONFIG_BYTES = 16 * 2**20
MAX_DEPTH = 120
MAX_WIDTH = 1_000_000
"""Of one layer: a Dense(10**12) is no model, it is a way to fill memory."""

_MODELS = "Functional Model Sequential"
_LAYERS = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D Add AdditiveAttention AlphaDropout Attention
    Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D
    BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional CategoryEncoding
    CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose
    ConvLSTM1D ConvLSTM2D Convolution1D Convolution2D Convolution3D Cropping1D Cropping2D
    Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense
    Embedding Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
    GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupQueryAttention HashedCrossing Hashing Identity InputLayer
    IntegerLookup LSTM LSTMCell LayerNormalization LayerScale LeakyReLU Masking MaxPool1D MaxPool2D
    MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MultiHeadAttention Multiply
    Normalization PReLU Permute RMSNormalization RNN RandomBrightness RandomContrast RandomCrop
    RandomFlip RandomHeight RandomRotation RandomTranslation RandomWidth RandomZoom ReLU
    RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D
    SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax
    SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells
    StringLookup Subtract TextVectorization ThresholdedReLU TimeDistributed UnitNormalization
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
"""
_OPERATIONS = """
    Abs Absolute AveragePool BatchNorm Clip Divide Exp ExpandDims GetItem Log Matmul Max MaxPool
    Mean Min Moveaxis Negative Pad Power Relu Relu6 Sigmoid Silu Sqrt Square Squeeze Stack Sum
    Tanh Transpose TrueDivide
"""
_VALUES = """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal
    LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal
    VarianceScaling Zeros
    L1 L1L2 L2 OrthogonalRegularizer
    MaxNorm MinMaxNorm NonNeg RadialConstraint UnitNorm
    AbsMaxQuantizer DTypePolicy DTypePolicyMap FloatDTypePolicy Int4QuantizationConfig
    Int8QuantizationConfig Policy QuantizedDTypePolicy QuantizedFloat8DTypePolicy SeedGenerator
    TensorShape __tuple__ __keras_tensor__ __numpy__ __tensor__ __ellipsis__ __slice__
"""
_TRAINING = """
    Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam
    RMSprop SGD CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay
    PiecewiseConstantDecay PolynomialDecay BinaryCrossentropy BinaryFocalCrossentropy CTC
    CategoricalCrossentropy CategoricalFocalCrossentropy CategoricalHinge CosineSimilarity Dice
    Hinge Huber KLDivergence LogCosh MeanAbsoluteError MeanAbsolutePercentageError
    MeanSquaredError MeanSquaredLogarithmicError Poisson SparseCategoricalCrossentropy
    SquaredHinge Tversky AUC Accuracy BinaryAccuracy BinaryIoU CategoricalAccuracy F1Score
    FBetaScore FalseNegatives FalsePositives IoU LogCoshError Mean MeanIoU MeanMetricWrapper
    OneHotIoU OneHotMeanIoU Precision PrecisionAtRecall R2Score Recall RecallAtPrecision
    RootMeanSquaredError SensitivityAtSpecificity SparseCategoricalAccuracy
    SparseTopKCategoricalAccuracy SpecificityAtSensitivity Sum TopKCategoricalAccuracy
    TrueNegatives TruePositives CompileMetrics MetricsList InputSpec TypeSpec
"""
"""Optimisers, losses, metrics and SavedModel specifications: not in what an assessment builds."""
_CLASSES = frozenset(f"{_MODELS} {_LAYERS} {_OPERATIONS} {_VALUES}".split())
# initialisers as Keras 2 also spells them: glorot_uniform, he_normal
_CLASSES |= {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in _VALUES.split()}
_FUNCTIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh
    leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax
    softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink
    threshold
    """.split()
)
_LOSSES = frozenset(
    """
    accuracy binary_accuracy binary_crossentropy categorical_accuracy categorical_crossentropy
    cosine_similarity hinge kl_divergence log_cosh mean_absolute_error
    mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error poisson
    sparse_categorical_accuracy sparse_categorical_crossentropy
    sparse_top_k_categorical_accuracy squared_hinge top_k_categorical_accuracy
    """.split()
)
_MODULES = re.compile(r"builtins|(tensorflow\.)?(python\.)?(tf_)?keras(\.[a-z0-9_]+)*")
_ARRAYS = frozenset({"__numpy__", "__tensor__"})
_NUMBERS = re.compile(r"(bool|bfloat16|u?int(8|16|32|64)|float(16|32|64))")
_ACTIVATION_KEYS = frozenset({"activation", "recurrent_activation"})
_WIDTH_KEYS = frozenset(
    """
    batch_input_shape batch_shape depth_multiplier filters height input_dim key_dim kernel_size
    max_tokens n num_bins num_heads num_tokens output_dim padding pool_size size target_shape
    units value_dim width
    """.split()
)
_TRAINING_KEYS = frozenset({"compile_config", "training_config"})
_PATH_KEYS = frozenset({"vocabulary", "idf_weights", "filepath", "file_path"})
_CODE = {
    "Lambda": "a Lambda layer runs code from the file",
    "__lambda__": "a lambda is code in the file",
    "TFOpLambda": "it names a TensorFlow function to call",
    "SlicingOpLambda": "it names a TensorFlow function to call",
    "TFSMLayer": "it loads a SavedModel from elsewhere",
    "TorchModuleWrapper": "it unpickles code from the file",
}
_ALSO = {
    "TFSMLayer": ("CVE-2026-1462",),
    "TorchModuleWrapper": ("CVE-2025-49655",),
    "get_file": ("CVE-2025-8747", "CVE-2025-12060"),
    "enable_unsafe_deserialization": ("CVE-2025-9906",),
}


class Problem(NamedTuple):
    """A part of a configuration that is refused."""

    rule: str
    level: Level
    where: str
    what: str
    reason: str
    also: tuple[str, ...] = ()
    """Further public entries about it."""


def parse_config(text: str | bytes) -> dict[str, Any]:
    """Parse a model's configuration and drop its training part, which is not needed.

    Raises:
        AssessmentError: No JSON object, or one of absurd size or depth.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise AssessmentError(
            f"model: expected a configuration of at most {MAX_CONFIG_BYTES} bytes; got {len(text)}"
        )
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AssessmentError(
            f"model: expected a configuration in JSON; got unreadable text ({error})"
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise AssessmentError("model: expected a configuration that names its class; got none")
    for key in _TRAINING_KEYS:
        config.pop(key, None)
    return config


def check_config(config: dict[str, Any]) -> None:
    """Refuse a model with any part that is not on the list of standard ones.

    Args:
        config: From ``parse_config``; both the Keras 2 and the Keras 3 dialect.

    Raises:
        AssessmentError: The message names the class or function and the layer it is in.
    """
    try:
        found = next(problems(config), None)
    except RecursionError:
        # the text of a value that nests about as deep as json.loads still takes
        found = _too_deep("the model")
    if found:
        raise AssessmentError(
            f"model: expected standard Keras layers only; got {found.what} in {found.where}, which "
            f"is refused because {found.reason}; rebuild the model from standard layers"
        )


def problems(config: dict[str, Any], *, training: bool = False) -> Iterator[Problem]:
    """Every part of a configuration that is not on the list of standard ones.

    Args:
        config: The whole configuration; both the Keras 2 and the Keras 3 dialect.
        training: Also accept optimisers, losses and metrics.
    """
    classes = _CLASSES | frozenset(_TRAINING.split()) if training else _CLASSES
    for where, node, depth in _nodes(config, "model", 0):
        if depth > MAX_DEPTH:
            yield _too_deep(where)
            return
        if "class_name" in node:
            yield from _class_problems(where, node, classes)
        for key, value in node.items():
            if key in _ACTIVATION_KEYS and isinstance(value, str) and value not in _FUNCTIONS:
                what = f"the {key} {value[:100]!r}"
                yield Problem("MW-KER-002", Level.MEDIUM, where, what, "it is not a standard one")
            if key in _WIDTH_KEYS and _largest(value) > MAX_WIDTH:
                what, reason = f"{key} {_largest(value)}", f"it is above {MAX_WIDTH}"
                yield Problem("MW-KER-004", Level.MEDIUM, where, what, reason)


def _too_deep(where: str) -> Problem:
    reason = f"it is deeper than {MAX_DEPTH}"
    return Problem("MW-KER-004", Level.MEDIUM, where, "nesting", reason)


def _nodes(value: Any, where: str, depth: int) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Every object of the configuration, with the name of the layer it belongs to."""
    if depth > MAX_DEPTH:
        yield where, {}, depth
    elif isinstance(value, dict):
        inner = value.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str) and "class_name" in value and name != "float32":
            where = f"layer {name[:60]!r}" if depth else f"model {name[:60]!r}"
        yield where, value, depth
        for child in value.values():
            yield from _nodes(child, where, depth + 1)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child, where, depth + 1)


def _class_problems(where: str, node: dict[str, Any], classes: frozenset[str]) -> Iterator[Problem]:
    name, module, inner = node["class_name"], node.get("module"), node.get("config")
    refused = _refusal(node, classes)
    if refused:
        what, reason, level = refused
        named = inner if name == "function" else name
        also = _ALSO.get(named, ()) if isinstance(named, str) else ()
        code = isinstance(name, str) and name in _CODE
        if also or code or _does_harm(module, named):
            level = Level.CRITICAL
        yield Problem("MW-KER-001" if code else "MW-KER-002", level, where, what, reason, also)
    if isinstance(inner, dict):
        kind = inner.get("dtype")
        plain = kind is None or (isinstance(kind, str) and _NUMBERS.fullmatch(kind))
        if isinstance(name, str) and name in _ARRAYS and not plain:
            # U500000000 makes a text of 2 GB out of every letter
            what, reason = f"values of type {kind!r:.60}", "they are no numbers"
            yield Problem("MW-KER-004", Level.MEDIUM, where, what, reason)
        for key in sorted(_PATH_KEYS & set(inner)):
            if isinstance(inner[key], str):
                reason = f"its {key} is the file or address {inner[key][:100]!r}"
                what = f"class {name!r:.100}"
                yield Problem("MW-KER-003", Level.HIGH, where, what, reason)


def _refusal(  # noqa: PLR0911 - one return per reason
    node: dict[str, Any], classes: frozenset[str]
) -> tuple[str, str, Level] | None:
    """What of a node is no standard part, why, and how bad that is; None: nothing."""
    name, module, registered = node["class_name"], node.get("module"), node.get("registered_name")
    strange = "it is not a standard Keras class"
    if not isinstance(name, str):
        return f"a class name of type {type(name).__name__}", "it is no text", Level.HIGH
    if module is not None and not (isinstance(module, str) and _MODULES.fullmatch(module)):
        what = f"class {name[:100]!r} of module {module!r:.100}"
        return what, "it is not part of Keras", Level.HIGH
    if name == "function":
        return _function_refusal(node.get("config"), registered)
    if name in _CODE:
        return f"class {name[:100]!r}", _CODE[name], Level.CRITICAL
    if name not in classes and not (
        name.startswith("Custom>") and name[7:] in classes - _CLASSES  # Keras 2 on optimisers
    ):
        return f"class {name[:100]!r}", strange, Level.MEDIUM
    if registered not in (None, name, f"keras>{name}", f"Keras>{name}"):
        return f"class {registered!r:.100}", strange, Level.MEDIUM
    return None


def _function_refusal(function: Any, registered: Any) -> tuple[str, str, Level] | None:
    reason = "it is not a standard one"
    if not isinstance(function, str) or function not in _FUNCTIONS | _LOSSES:
        return f"the function {function!r:.100}", reason, Level.HIGH
    if registered not in (None, "function", function):
        return f"the function {registered!r:.100}", reason, Level.HIGH
    return None


def _does_harm(module: object, function: object) -> bool:
    """Whether a pickle that names this would be called malicious."""
    return (
        isinstance(module, str)
        and isinstance(function, str)
        and judge(module, function) is Level.CRITICAL
    )


def _largest(value: Any) -> int:
    """The largest number in lists of any depth; json.loads takes deeper ones than recursion."""
    largest, pending = 0, [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, int):
            largest = max(largest, item)
    return largest
