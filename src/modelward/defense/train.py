"""Training of the detector and the folding of its threshold."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from modelward.defense import encodings
from modelward.defense.inputs import Images, Split
from modelward.defense.network import core_spec, pool_factor
from modelward.defense.outliers import jitter, make_outliers
from modelward.nets import build_torch

__all__ = [
    "OUTLIER",
    "Effort",
    "Pool",
    "build_pool",
    "calibrate",
    "extend_pool",
    "fit",
    "fold_threshold",
    "scores",
]

OUTLIER = -1
"""Source number of outliers made from benign images."""
_BENIGN = -2

TARGET_FPR = 0.01
_CONFIDENCE = 0.5
_OUTLIER_SHARE = 0.4
_BENIGN_SHARE = 0.5
_MANY_BENIGN = 2000
"""Benign images from which on none are moved to make more of them."""
_LEAST_WEIGHT = 0.02


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much a training may cost."""

    steps: int
    batch: int = 128
    peak_rate: float = 4e-3


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Training images, encoded and averaged down once, for all trainings of a job."""

    images: torch.Tensor
    """(n, c, h, w) uint8."""
    source: NDArray[np.int64]
    """(n,) int64: query source, OUTLIER or (negative) benign."""

    @property
    def benign(self) -> NDArray[np.int64]:
        """Rows of the benign class."""
        return np.flatnonzero(self.source == _BENIGN)

    def without(self, left_out: set[int]) -> "Pool":
        """The pool without some query sources."""
        keep = np.flatnonzero(~np.isin(self.source, list(left_out)))
        return replace(self, images=self.images[torch.from_numpy(keep)], source=self.source[keep])


def _shrunk(images: Images, factor: int) -> torch.Tensor:
    """(n, h, w, c) uint8 -> (n, c, h // factor, w // factor) uint8."""
    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    if factor == 1:
        return tensor
    parts = [
        F.avg_pool2d(part.float(), factor).round().to(torch.uint8) for part in tensor.split(256)
    ]
    return torch.cat(parts)


def build_pool(split: Split, unsent: dict[int, Images], seed: int, most: int) -> Pool:
    """Augment, encode and shrink everything that trains.

    Both classes pass through the same random encodings.

    Args:
        split: Of benign images and queries.
        unsent: Further queries by source.
        seed: Of augmentation and encodings.
        most: About how many images each class gets.
    """
    rng = np.random.default_rng([seed, 2])
    benign = split.benign_train
    repeats = max(1, min(2 if len(benign) >= _MANY_BENIGN else 4, most // len(benign)))
    # A large sample shows by itself how much things move in its domain. To move them further
    # would hide the placement (digits centred by mass, say), which queries rarely hit: measured
    # on digits, it costs a tenth of the queries from unseen sources. A small sample needs it.
    small = len(benign) < _MANY_BENIGN
    copies = (jitter(rng, benign) if small else benign for _ in range(repeats - 1))
    parts = [benign, *copies]
    sources = [np.full(len(benign) * repeats, _BENIGN)]
    outliers = make_outliers(rng, benign, max(120, min(most, 2 * len(benign)) // 2))
    parts += [split.attack_train, *unsent.values(), outliers]
    sources += [split.attack_train_source, *(np.full(len(v), k) for k, v in unsent.items())]
    sources.append(np.full(len(outliers), OUTLIER))
    channels = benign.shape[-1]
    factor = pool_factor((benign.shape[1], benign.shape[2], channels))
    encoded = [
        _shrunk(encodings.apply(part, encodings.random_encodings(rng, len(part), channels)), factor)
        for part in parts
    ]
    return Pool(images=torch.cat(encoded), source=np.concatenate(sources).astype(np.int64))


def extend_pool(
    pool: Pool, extra: dict[int, Images], shape: tuple[int, int, int], seed: int
) -> Pool:
    """The pool with further queries, encoded like the others.

    Args:
        pool: From ``build_pool``; left as it is.
        extra: Query images by source, (n, h, w, c) uint8.
        shape: (height, width, channels) before averaging.
        seed: Of the encodings.
    """
    rng = np.random.default_rng([seed, 5])
    images, sources = [pool.images], [pool.source]
    for source, more in extra.items():
        coded = encodings.apply(more, encodings.random_encodings(rng, len(more), shape[2]))
        images.append(_shrunk(coded, pool_factor(shape)))
        sources.append(np.full(len(more), source, np.int64))
    return replace(pool, images=torch.cat(images), source=np.concatenate(sources))


class _Draw:
    """Batches of half benign, half attack rows; rows that were hard come more often.

    Most queries (noise, gradients, textures) are told apart within a few steps; drawing by the
    last loss spends the rest of the training on those that look like the domain. The shift in
    the odds does no harm: the threshold is set afterwards. Like the loss-based sampling of
    I. Loshchilov, F. Hutter, "Online Batch Selection for Faster Training of Neural Networks",
    2015.
    """

    def __init__(self, pool: Pool, batch: int, rng: np.random.Generator) -> None:
        attacks = np.flatnonzero(pool.source >= 0)
        outliers = np.flatnonzero(pool.source == OUTLIER)
        half = int(batch * _BENIGN_SHARE)
        few = round((batch - half) * (_OUTLIER_SHARE if len(attacks) else 1))
        self._groups = [(pool.benign, half), (outliers, few), (attacks, batch - half - few)]
        self._weight = np.ones(len(pool.source))
        self._outlier = pool.source == OUTLIER
        self._rng = rng
        self.truth = np.repeat([0, 1], [half, batch - half]).astype(np.int64)

    def rows(self) -> NDArray[np.int64]:
        """The next batch: benign rows first."""
        parts = []
        for group, count in self._groups:
            if count:
                edges = np.cumsum(self._weight[group])
                at = np.searchsorted(edges, self._rng.random(count) * edges[-1], side="right")
                parts.append(group[np.minimum(at, len(group) - 1)])
        return np.concatenate(parts)

    def learn(self, rows: NDArray[np.int64], losses: NDArray[np.float32]) -> None:
        """Remember how hard the rows were: the probability of the wrong class, with a floor."""
        weight = np.maximum(1 - np.exp(-losses), _LEAST_WEIGHT)
        # Some outliers never left the domain (a turned 0): to seek them out would be wrong.
        weight[self._outlier[rows]] = 1
        self._weight[rows] = weight


def fit(
    pool: Pool,
    shape: tuple[int, int, int],
    effort: Effort,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> Any:
    """Train a detector.

    Args:
        pool: Training images of both classes.
        shape: (height, width, channels) before averaging.
        effort: Steps and batch size.
        seed: Of weights and batches.
        progress: Told the share done, sometimes.

    Returns:
        ``torch.nn.Sequential`` in evaluation mode: full-size (n, c, h, w) float32 in [0, 1] ->
        (n, 2) logits.
    """
    core = build_torch(core_spec(shape), seed)
    rng = np.random.default_rng([seed, 3])
    optimiser = torch.optim.AdamW(core.parameters(), lr=1e-3, weight_decay=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, effort.peak_rate, total_steps=effort.steps, pct_start=0.2
    )
    draw = _Draw(pool, effort.batch, rng)
    truth = torch.from_numpy(draw.truth)
    core.train()
    for step in range(effort.steps):
        rows = draw.rows()
        logits = core(_floats(pool.images[torch.from_numpy(rows)]))
        losses = F.cross_entropy(logits, truth, reduction="none")
        optimiser.zero_grad()
        losses.mean().backward()
        optimiser.step()
        schedule.step()
        draw.learn(rows, losses.detach().numpy())
        if progress is not None and step % 20 == 0:
            progress(step / effort.steps)
    core.eval()
    factor = pool_factor(shape)
    layers = list(core.children())
    return torch.nn.Sequential(
        *([torch.nn.AvgPool2d(factor), *layers] if factor > 1 else layers)
    ).eval()


def _floats(images: torch.Tensor) -> torch.Tensor:
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


def scores(module: Any, images: Images, batch: int = 512) -> NDArray[np.float64]:
    """How much more the detector thinks attack than not-attack.

    Args:
        module: What ``fit`` made.
        images: (n, h, w, c) uint8.
        batch: Images at a time.

    Returns:
        (n,) float64, difference of the logits: unlike the probability it never saturates.
    """
    out = np.empty(len(images), np.float64)
    with torch.inference_mode():
        for low in range(0, len(images), batch):
            part = images[low : low + batch].transpose(0, 3, 1, 2)
            logits = module(_floats(torch.from_numpy(np.ascontiguousarray(part)))).double()
            out[low : low + batch] = (logits[:, 1] - logits[:, 0]).numpy()
    return out


def allowed_false_positives(n: int, rate: float, confidence: float = _CONFIDENCE) -> int:
    """Most calibration images that may lie above the threshold.

    The largest k for which a detector whose true rate were ``rate`` would show more than k false
    positives among n with probability ``confidence``: so the true rate is at most ``rate`` with
    that confidence (a one-sided tolerance limit of the order statistics).

    Returns:
        k, or -1 where n is too small to support the rate even with no false positive.
    """
    term = (1 - rate) ** n
    total, k = term, 0
    if total > 1 - confidence:
        return -1
    while total <= 1 - confidence:
        term *= (n - k) / (k + 1) * rate / (1 - rate)
        k += 1
        total += term
    return k - 1


def calibrate(benign_scores: list[NDArray[np.float64]], rate: float = TARGET_FPR) -> float:
    """Threshold at which at most ``rate`` of benign images are called attacks.

    Args:
        benign_scores: Scores of held-out benign images, one array per encoding; the strictest
            counts, so that the rate holds under each.
        rate: Wanted false positive rate.

    Returns:
        The score above which an input is an attack. With too few images to support the rate, a
        little above the highest benign score.
    """
    limits = []
    for values in benign_scores:
        ordered = np.sort(values)[::-1]
        allowed = allowed_false_positives(len(ordered), rate)
        if allowed < 0:
            limits.append(float(ordered[0]) + 0.25 * float(np.std(ordered)))
        else:
            limits.append(float(ordered[allowed]))
    return max(limits)


def fold_threshold(module: Any, threshold: float) -> None:
    """Move the threshold into the last bias, so that argmax is the decision.

    ``logit[1] - logit[0] > threshold`` becomes ``logit[1]' > logit[0]'`` with half of the
    threshold added to the first bias and half taken from the second.

    Args:
        module: What ``fit`` made; changed in place.
        threshold: From ``calibrate``.
    """
    last = [layer for layer in module if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias += torch.tensor([threshold / 2, -threshold / 2])
