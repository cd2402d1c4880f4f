"""Training the surrogate's body on the target's answers."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from modelward.attacks.extraction.plan import Progress

__all__ = ["Learner"]

_BATCH = 96
_PEAK = 4e-3
"""Highest learning rate of a cycle."""
_SCORING_BATCH = 500


class Learner:
    """A network that is trained again and again as answers come in.

    Args:
        body: ``torch.nn.Sequential`` from images (n, c, h, w) to logits.
        seed: Seed of batches, dropout and augmentation.
    """

    def __init__(self, body: Any, seed: int) -> None:
        self.body = body
        self._seed = seed
        self.runs = 0
        """Trainings so far; each draws from a generator of its own."""

    def fit(
        self,
        images: NDArray[np.uint8],
        answers: NDArray[Any],
        samples: int,
        progress: Progress,
    ) -> None:
        """Train for about ``samples`` images (with repetition) on a one-cycle schedule.

        Args:
            images: (n, h, w, c) uint8 at canvas size.
            answers: (n,) int64 labels, or (n, classes) float32 probabilities.
            samples: Images to go through in total.
            progress: Told the share done.
        """
        self.runs += 1
        batch = min(_BATCH, len(images))
        steps = max(samples // max(batch, 1), 10)
        rng = np.random.default_rng((self._seed, self.runs))
        targets = torch.from_numpy(answers)
        optimiser = torch.optim.Adam(self.body.parameters(), lr=_PEAK / 10, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, _PEAK, total_steps=steps, pct_start=0.25
        )
        self.body.train()
        order = np.empty(0, np.int64)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed * 1_000_003 + self.runs)
            for step in range(steps):
                if len(order) < batch:
                    order = np.concatenate([order, rng.permutation(len(images))])
                rows, order = np.sort(order[:batch]), order[batch:]
                x = _shifted(rng, _tensor(images[rows]))
                optimiser.zero_grad(set_to_none=True)
                loss = _loss(self.body(x), targets[torch.from_numpy(rows)])
                loss.backward()
                optimiser.step()
                schedule.step()
                if step % 10 == 0:
                    progress(step / steps, f"training on {len(images)} answers")
        self.body.eval()

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities of canvas-size images (n, h, w, c) uint8, (n, classes) float32."""
        parts = []
        with torch.inference_mode():
            for low in range(0, len(images), _SCORING_BATCH):
                logits = self.body(_tensor(images[low : low + _SCORING_BATCH]))
                parts.append(F.softmax(logits, 1).numpy())
        return np.concatenate(parts)

    def direction(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Sign of the gradient of the strongest output, (n, h, w, c) float32 in {-1, 0, 1}."""
        out = np.empty(images.shape, np.float32)
        for low in range(0, len(images), _SCORING_BATCH):
            x = _tensor(images[low : low + _SCORING_BATCH]).requires_grad_(True)
            self.body(x).amax(1).sum().backward()
            out[low : low + _SCORING_BATCH] = x.grad.sign().permute(0, 2, 3, 1).numpy()
        self.body.zero_grad(set_to_none=True)
        return out


def _tensor(images: NDArray[np.uint8]) -> Any:
    """(n, h, w, c) uint8 -> (n, c, h, w) float32 in [0, 1], channels last in memory."""
    scaled = np.multiply(images, np.float32(1 / 255), dtype=np.float32)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def _shifted(rng: np.random.Generator, x: Any) -> Any:
    """Move half of the batches by up to one pixel: the answer is assumed to stay the same."""
    height, width = x.shape[2:]
    if min(height, width) < 16 or rng.random() < 0.5:
        return x
    dy, dx = rng.integers(-1, 2, 2)
    return torch.roll(x, (int(dy), int(dx)), (2, 3))


def _loss(logits: Any, targets: Any) -> Any:
    """Cross-entropy with labels, or with the target's probabilities."""
    return F.cross_entropy(logits, targets)
