"""Model extraction with synthetic queries in adaptive rounds."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modelward import nets
from modelward.attacks.extraction.notebook import Notebook, arrays_of, load_arrays, of_plan
from modelward.attacks.extraction.plan import ExtractionPlan, Progress, marks, training_samples
from modelward.attacks.extraction.result import ExtractionResult, labels_of
from modelward.attacks.extraction.sources import canvas_size, resize
from modelward.attacks.extraction.strategy import SourceLedger, choose
from modelward.attacks.extraction.surrogate import Surrogate, body_spec
from modelward.attacks.extraction.training import Learner
from modelward.attacks.registry import Parents, QuerySource, SourceKind, get_source, query_sources
from modelward.domain import AssessmentError, AttackType
from modelward.targets import BudgetedTarget

__all__ = ["extract"]

_KEEP_BYTES = 2 << 30
"""Most bytes of queries held for training, and of full-size queries in a result."""
_ASK_VALUES = 1 << 23
"""Values (pixels times channels) sent to the target at a time."""
_POOL_EARLY, _POOL_LATE, _EARLY = 6, 3, 5_000
"""Candidates made for each query of an adaptive round, while fewer than ``_EARLY`` queries are
spent and after that. A wide choice counts most while answers are few; it costs time per query."""
_PORTION = 2_000
"""Most queries chosen in one go; sources are judged anew after each portion."""
_PARENTS = 20_000
"""Most earlier queries kept at hand as parents."""
_KEPT = ("images", "answers", "source_of", "source_counts", "seen", "worth")
"""Arrays that an attack needs to go on, beside its networks."""
_LOG = logging.getLogger(__name__)


class _Attack:
    """State of one run; ``run`` is the whole story."""

    def __init__(
        self,
        target: BudgetedTarget,
        plan: ExtractionPlan,
        progress: Progress,
        notebook: Notebook | None = None,
    ) -> None:
        self.target, self.plan, self.progress = target, plan, progress
        self.notebook = notebook
        self.rng = np.random.default_rng(plan.seed)
        height, width, _ = canvas_size(plan.input_shape)
        self.canvas = (height, width, plan.input_shape[2])
        self.sources = _sources_for(plan)
        self.ledger = SourceLedger.fresh(len(self.sources))
        spec = body_spec(plan.input_shape, plan.classes)
        self.learner = Learner(nets.build_torch(spec, plan.seed), plan.seed)
        self.checkpoints: list[tuple[int, Surrogate]] = []
        self.images = np.empty((0, *self.canvas), np.uint8)
        self.answers: NDArray[Any] = np.empty(0)
        self.source_of = np.empty(0, np.int64)
        self.spent = 0
        self.source_counts = np.zeros(len(self.sources), np.int64)
        self.seen = np.zeros(plan.classes, np.int64)
        self.seeds: NDArray[np.uint8] | None = None
        if plan.attack_type is AttackType.GREYBOX and plan.seed_images is not None:
            self.seeds = resize(plan.seed_images, height, width)

    @property
    def trained(self) -> bool:
        """Whether the surrogate has learned from any answers."""
        return bool(self.checkpoints)

    def run(self) -> ExtractionResult:
        """Rounds up to each mark: make, choose, ask, train."""
        self._resume()
        stops = marks(self.plan.budget)
        effort = [training_samples(m, final=m == stops[-1]) for m in stops]
        cost = np.array(effort, float) + 4 * np.diff((0, *stops))
        edges = np.concatenate([[0], np.cumsum(cost) / cost.sum()])
        for k, stop in enumerate(stops):
            if k < len(self.checkpoints):
                continue
            middle = edges[k] + (edges[k + 1] - edges[k]) * (1 - effort[k] / cost[k])
            self._round(stop, self._part(edges[k], middle))
            training = self._part(middle, edges[k + 1])
            self.learner.fit(self.images, self.answers, effort[k], training)
            self.checkpoints.append((stop, self._frozen(self.learner.body)))
            self._note(always=stop == stops[-1])
        self.progress(1.0, "extraction done")
        return self._result(tuple(self.checkpoints))

    def _frozen(self, body: Any) -> Surrogate:
        return Surrogate.of_body(self.plan.input_shape, self.plan.classes, body)

    def _note(self, *, always: bool = False) -> None:
        """Write down where the attack is; only between two portions, where little is in hand."""
        if self.notebook is None or not (always or self.notebook.due()):
            return
        values = {
            "plan": of_plan(self.plan, tuple(source.name for source in self.sources)),
            "spent": self.spent,
            "rng": self.rng.bit_generator.state,
            "runs": self.learner.runs,
            "marks": [stop for stop, _ in self.checkpoints],
            # Sums are split over threads, and their order decides the last bits.
            "threads": torch.get_num_threads(),
        }
        arrays = {
            **{name: getattr(self, name) for name in _KEPT if name != "worth"},
            "worth": self.ledger.worth,
            **arrays_of(self.learner.body, "body/"),
        }
        for stop, surrogate in self.checkpoints:
            arrays |= arrays_of(surrogate.body, f"mark{stop}/")
        self.notebook.write(values, arrays)

    def _resume(self) -> None:
        """Go on from what an earlier process wrote down; notes of another attack are ignored."""
        found = self.notebook.read() if self.notebook else None
        if found is None:
            return
        values, arrays = found
        if values["plan"] != of_plan(self.plan, tuple(s.name for s in self.sources)):
            return
        try:
            rng = np.random.default_rng(0)
            rng.bit_generator.state = values["rng"]
            marks = [(int(m), self._body(arrays, f"mark{int(m)}/")) for m in values["marks"]]
            body = self._body(arrays, "body/")
            kept = {name: arrays[name] for name in _KEPT}
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            _LOG.warning("notes of the attack cannot be used, it begins anew: %s", error)
            return
        torch.set_num_threads(int(values["threads"]))
        self.rng = rng
        self.checkpoints = [(stop, self._frozen(earlier)) for stop, earlier in marks]
        self.learner.body, self.learner.runs = body, int(values["runs"])
        self.ledger.worth = kept.pop("worth")
        for name, value in kept.items():
            setattr(self, name, value)
        self.spent = int(values["spent"])
        self.target.charge(self.spent)

    def _body(self, arrays: Mapping[str, NDArray[Any]], prefix: str) -> Any:
        spec = body_spec(self.plan.input_shape, self.plan.classes)
        body = nets.build_torch(spec, self.plan.seed)
        load_arrays(body, arrays, prefix)
        return body.eval()

    def _part(self, low: float, high: float) -> Progress:
        """A progress callback for one part of the whole."""

        def report(share: float, text: str) -> None:
            self.progress(
                float(low + (high - low) * share), f"{text} ({self.target.spent} queries)"
            )

        return report

    def _round(self, stop: int, progress: Progress) -> None:
        """Spend the queries up to ``stop``, in portions that fit into memory."""
        begin = self.spent
        portion = max(1, (256 << 20) // (_POOL_EARLY * int(np.prod(self.canvas))))
        portion = min(portion, _PORTION)
        while self.spent < stop:
            n = min(stop - self.spent, portion)
            low = (self.spent - begin) / (stop - begin)
            width = n / (stop - begin)

            def report(share: float, text: str, low: float = low, width: float = width) -> None:
                progress(low + width * share, text)

            images, source_of, expected = self._candidates(n, report)
            self._ask(images, source_of, expected, report)
            if self.spent < stop:
                self._note()

    def _candidates(
        self, n: int, progress: Progress
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64] | None]:
        counts = self.ledger.allocate(n)
        images, owners, expected = [], [], []
        wide = _POOL_EARLY if self.spent < _EARLY else _POOL_LATE
        for s, count in enumerate(counts):
            if not count:
                continue
            source = self.sources[s]
            progress(s / len(counts) / 2, "making queries")
            pool = int(count) * (wide if self.trained else 1)
            made = source.make(
                self.rng, pool, self.canvas, self._parents(source), **source.parameters
            )
            if self.trained:
                believed = self.learner.probabilities(made)
                rows = choose(self.rng, believed, self.seen, int(count))
                made = made[rows]
                expected.append(believed[rows].argmax(1))
            images.append(made)
            owners.append(np.full(int(count), s, np.int64))
        return (
            np.concatenate(images),
            np.concatenate(owners),
            np.concatenate(expected) if expected else None,
        )

    def _parents(self, source: QuerySource) -> Parents | None:
        if source.kind is SourceKind.SYNTHETIC:
            return None
        if source.kind is SourceKind.SEEDED and self.seeds is not None:
            if not self.trained:
                return Parents(images=self.seeds, labels=np.arange(len(self.seeds)))
            guess = self.learner.probabilities(self.seeds).argmax(1).astype(np.int64)
            return Parents(images=self.seeds, labels=guess, direction=self.learner.direction)
        if not len(self.images):
            return self._first_parents()
        recent = slice(-_PARENTS, None)
        return Parents(images=self.images[recent], labels=labels_of(self.answers[recent]))

    def _first_parents(self) -> Parents:
        """Before the first answer, derived sources work on images that are never sent."""
        makers = query_sources(SourceKind.SYNTHETIC)
        made = [s.make(self.rng, 8, self.canvas, None, **s.parameters) for s in makers]
        return Parents(images=np.concatenate(made), labels=np.arange(len(makers)).repeat(8))

    def _ask(
        self,
        images: NDArray[np.uint8],
        source_of: NDArray[np.int64],
        expected: NDArray[np.int64] | None,
        progress: Progress,
    ) -> None:
        height, width, _ = self.plan.input_shape
        size = max(1, min(500, _ASK_VALUES // int(np.prod(self.plan.input_shape))))
        parts = []
        for low in range(0, len(images), size):
            full = resize(images[low : low + size], height, width)
            parts.append(self.target.query(full.astype(np.float32) / np.float32(255)))
            progress(0.5 + low / len(images) / 2, "asking the target")
        answers = np.concatenate(parts)
        labels = labels_of(answers)
        wrong = np.ones(len(labels), bool) if expected is None else labels != expected
        self.ledger.update(source_of, labels, wrong, self.plan.classes)
        self.seen += np.bincount(labels, minlength=self.plan.classes)
        self.source_counts += np.bincount(source_of, minlength=len(self.sources))
        self.spent += len(images)
        if not len(self.images):
            self.images, self.answers, self.source_of = images, answers, source_of
            return
        self.images = np.concatenate([self.images, images])
        self.answers = np.concatenate([self.answers, answers])
        self.source_of = np.concatenate([self.source_of, source_of])
        most = _KEEP_BYTES // int(np.prod(self.canvas))
        if len(self.images) > most:
            rows = np.sort(self.rng.choice(len(self.images), most, replace=False))
            self.images, self.answers = self.images[rows], self.answers[rows]
            self.source_of = self.source_of[rows]

    def _result(self, checkpoints: tuple[tuple[int, Surrogate], ...]) -> ExtractionResult:
        height, width, _ = self.plan.input_shape
        most = max(1, _KEEP_BYTES // int(np.prod(self.plan.input_shape)))
        rows: slice | NDArray[np.int64] = slice(None)
        if len(self.images) > most:
            rows = np.linspace(0, len(self.images) - 1, most).astype(np.int64)
        return ExtractionResult(
            plan=self.plan,
            surrogate=checkpoints[-1][1],
            checkpoints=checkpoints,
            queries=resize(self.images[rows], height, width),
            answers=self.answers[rows],
            source_of=self.source_of[rows],
            sources=self.sources,
            spent=self.spent,
            source_counts=tuple(self.source_counts.tolist()),
            class_counts=tuple(self.seen.tolist()),
            seeds=self.plan.seed_images if self.seeds is not None else None,
        )


def _sources_for(plan: ExtractionPlan) -> tuple[QuerySource, ...]:
    if plan.sources:
        return tuple(get_source(name) for name in plan.sources)
    kinds: Sequence[SourceKind] = (SourceKind.SYNTHETIC, SourceKind.DERIVED)
    if plan.attack_type is AttackType.GREYBOX:
        kinds = (*kinds, SourceKind.SEEDED)
    return query_sources(*kinds)


def extract(
    target: BudgetedTarget,
    plan: ExtractionPlan,
    progress: Progress,
    notebook: Notebook | None = None,
) -> ExtractionResult:
    """Steal a copy of an image classifier by asking it about synthetic images.

    In rounds, a pool of candidates comes from the query sources; the surrogate trained so far
    chooses those about which it is unsure and whose class is rare; the target answers; the
    surrogate is trained on all answers. Sources that bring varied and unexpected answers get
    more of the next round.

    Args:
        target: The target with its budget.
        plan: What the attacker knows and may spend.
        progress: Called with the share done and a text.
        notebook: Where the attack writes down how far it is. With notes of an earlier process the
            attack goes on from there, and its result is the one of an attack that was never
            interrupted. Queries that were asked after the last note are asked again.

    Returns:
        The surrogate, its earlier states, and the queries with their answers.

    Raises:
        AssessmentError: Target and plan disagree on shape, classes or access.
    """
    for name in ("input_shape", "classes", "access"):
        if getattr(target, name) != getattr(plan, name):
            raise AssessmentError(
                f"extraction: the plan's {name} is {getattr(plan, name)}, the target's is "
                f"{getattr(target, name)}; make both from the same configuration"
            )
    if target.remaining < plan.budget:
        raise AssessmentError(
            f"extraction: the plan spends {plan.budget} queries, the target has "
            f"{target.remaining} left; lower the plan's budget"
        )
    return _Attack(target, plan, progress, notebook).run()
