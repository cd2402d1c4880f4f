"""What the detector is made from, and how it is split."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelward.attacks import SourceKind, get_source
from modelward.domain import LEAST_FOR_DEFENSE, AssessmentError, ModelwardError

__all__ = ["DefenseInputs", "Images", "Split", "derived_sources", "generate_unsent", "split_inputs"]

Images = NDArray[np.uint8]
"""(n, height, width, channels) uint8, 0-255."""

_CALIBRATION_SHARE = 0.2
_TEST_SHARE = 0.2
_QUERY_TEST_SHARE = 0.2
_QUERY_TEST_MOST = 4000


@dataclass(frozen=True, kw_only=True)
class DefenseInputs:
    """Benign images, this job's queries, and what is needed to make more and to compare cost.

    Raises:
        AssessmentError: Shapes or types do not fit together, or there are too few samples.
    """

    benign: Images
    """(n, h, w, c) uint8: images of the model's own domain."""
    queries: Images
    """(m, h, w, c) uint8: what this job sent."""
    source_of: NDArray[np.integer]
    """(m,) int: index into ``sources`` of each query."""
    sources: tuple[str, ...]
    """Names of the query sources."""
    generate: Callable[[str, int, int], Images]
    """(source, count, seed) -> unsent queries of that source; may refuse with an exception."""
    model_predict: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    """The protected model, (n, h, w, c) float32 in [0, 1] -> (n, classes); for its latency."""
    model_classes: int
    """Number of classes of the protected model."""
    seed: int
    """Of splits, weights and augmentation."""

    def __post_init__(self) -> None:
        for name, images, least in (
            ("benign", self.benign, LEAST_FOR_DEFENSE),
            ("queries", self.queries, LEAST_FOR_DEFENSE),
        ):
            if images.dtype != np.uint8 or images.ndim != 4:
                raise AssessmentError(
                    f"defence: expected {name} as (n, height, width, channels) uint8, "
                    f"got {images.shape} {images.dtype}"
                )
            if len(images) < least:
                raise AssessmentError(
                    f"defence: expected at least {least} {name} images, got {len(images)}; "
                    "upload more samples or raise number_of_attack_queries"
                )
        if self.benign.shape[1:] != self.queries.shape[1:]:
            raise AssessmentError(
                f"defence: benign images are {self.benign.shape[1:]}, queries "
                f"{self.queries.shape[1:]}; both must have the model's input shape"
            )
        if self.source_of.shape != (len(self.queries),) or (
            len(self.source_of)
            and not 0 <= int(self.source_of.min()) <= int(self.source_of.max()) < len(self.sources)
        ):
            raise AssessmentError(
                f"defence: expected one source index below {len(self.sources)} per query, "
                f"got shape {self.source_of.shape} for {len(self.queries)} queries"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.benign.shape[1:]
        return height, width, channels


@dataclass(frozen=True, kw_only=True)
class Split:
    """Disjoint parts: what trains, what sets the threshold, what measures."""

    benign_train: Images
    benign_calibration: Images
    benign_test: Images
    attack_train: Images
    attack_train_source: NDArray[np.int64]
    attack_test: Images
    attack_test_source: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def _digests(images: Images) -> NDArray[np.object_]:
    return np.array([image.tobytes() for image in images], dtype=object)


def split_inputs(inputs: DefenseInputs, most: int) -> Split:
    """Split benign images 60/20/20 and queries 80/20 within each source, by the seed.

    Repeated benign images stay on one side, and held-out queries that equal a training query or
    a benign image are dropped: neither may be measured on what was learnt.

    Args:
        inputs: The samples.
        most: Most training images per class.

    Returns:
        The parts; notes say what was dropped.
    """
    rng = np.random.default_rng([inputs.seed, 1])
    benign_keys = _digests(inputs.benign)
    _, first = np.unique(benign_keys, return_index=True)
    order = rng.permutation(np.sort(first))
    calibration = max(3, round(len(order) * _CALIBRATION_SHARE))
    test = max(3, round(len(order) * _TEST_SHARE))
    if len(order) < LEAST_FOR_DEFENSE:
        raise AssessmentError(
            f"defence: expected at least {LEAST_FOR_DEFENSE} different benign images, got "
            f"{len(order)}; upload more, or send vulnerability_threshold 1 to do without a defence"
        )
    notes = []
    if len(order) < len(inputs.benign):
        notes.append(f"{len(inputs.benign) - len(order)} repeated benign images were left out.")

    known = set(benign_keys)
    keys = _digests(inputs.queries)
    fresh = np.array([key not in known for key in keys])
    if not fresh.all():
        notes.append(f"{int((~fresh).sum())} queries equal to a benign image were left out.")
    train_parts, test_parts = [], []
    share = min(_QUERY_TEST_SHARE, _QUERY_TEST_MOST / len(keys))
    for source in range(len(inputs.sources)):
        rows = rng.permutation(np.flatnonzero(fresh & (inputs.source_of == source)))
        held = round(len(rows) * share) if len(rows) > 1 else 0
        test_parts.append(rows[:held])
        train_parts.append(rows[held:])
    attack_train, attack_test = np.concatenate(train_parts), np.concatenate(test_parts)
    if len(attack_train) < 2:
        raise AssessmentError(
            "defence: expected queries that differ from the benign images, got "
            f"{len(attack_train)}; raise number_of_attack_queries"
        )
    learnt = set(keys[attack_train])
    attack_test = attack_test[[key not in learnt for key in keys[attack_test]]]
    kept = rng.permutation(attack_train)[:most]
    return Split(
        benign_calibration=inputs.benign[order[:calibration]],
        benign_test=inputs.benign[order[calibration : calibration + test]],
        benign_train=inputs.benign[order[calibration + test :][:most]],
        attack_train=inputs.queries[kept],
        attack_train_source=inputs.source_of[kept].astype(np.int64),
        attack_test=inputs.queries[attack_test],
        attack_test_source=inputs.source_of[attack_test].astype(np.int64),
        notes=tuple(notes),
    )


def generate_unsent(inputs: DefenseInputs, total: int) -> dict[int, Images]:
    """Unsent queries of every source that can make them, in proportion to what was sent.

    A source may refuse (one that works on earlier answers, and has none); it then trains on its
    sent queries alone.

    Args:
        inputs: The samples.
        total: About how many; each source makes at least a tenth of its equal share.

    Returns:
        Source index -> (n, h, w, c) uint8; sources that refused are absent.
    """
    made: dict[int, Images] = {}
    sent = np.bincount(inputs.source_of, minlength=len(inputs.sources))
    least = total / (10 * max(1, int((sent > 0).sum())))
    for index, name in enumerate(inputs.sources):
        if not sent[index]:
            continue
        count = round(max(least, total * int(sent[index]) / len(inputs.queries)))
        try:
            images = inputs.generate(name, max(1, count), inputs.seed + 7919 * (index + 1))
        except (ValueError, ModelwardError):
            continue
        if images.shape[1:] == inputs.queries.shape[1:] and images.dtype == np.uint8:
            made[index] = images
    return made


def derived_sources(inputs: DefenseInputs, unsent: dict[int, Images]) -> set[int]:
    """Sources that rework earlier queries or seeds, and so carry parts of the others.

    Args:
        inputs: The samples.
        unsent: From ``generate_unsent``; a source that refused is derived.

    Returns:
        Their indices.
    """
    derived = set()
    for index, name in enumerate(inputs.sources):
        try:
            synthetic = get_source(name).kind is SourceKind.SYNTHETIC
        except ModelwardError:  # not one of ours: its refusal tells
            synthetic = index in unsent
        if not synthetic:
            derived.add(index)
    return derived
