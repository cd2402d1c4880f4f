"""The stages of an extraction assessment, in the order in which they run."""

import numpy as np

from modelward.attacks import ExtractionPlan, extract
from modelward.data import load_images
from modelward.domain import Access, AssessmentError, AttackType, TaskType
from modelward.jobs.pipeline import StageContext
from modelward.jobs.pipelines.image_extraction import artifacts, measures
from modelward.jobs.pipelines.image_extraction.opening import open_target
from modelward.jobs.pipelines.image_extraction.resuming import AttackNotes
from modelward.jobs.pipelines.image_extraction.state import Assessment, Labels, Model
from modelward.scan import Level, require_harmless, scan_path
from modelward.scoring import defense_due
from modelward.targets import BudgetedTarget

__all__ = ["attack", "check_sanity", "defend", "explore_model", "judge"]

SEED_SHARE = 0.5
"""Share of the uploaded images that a grey-box attacker holds; the others score."""


def explore_model(context: StageContext, state: Assessment) -> None:
    """Scan what was uploaded, open the model safely and hold its shape against the payload."""
    context.progress(0.05, "Scanning the uploads")
    scanned = scan_path(context.inputs["model"])
    require_harmless(scanned)
    for slot in ("data", "label"):
        # Images and text: a wrong ending or a stray file is the decoders' business, code is not.
        require_harmless(scan_path(context.inputs[slot]), what=slot, blocking=Level.HIGH)
    context.progress(0.1, "Reading the model file")
    state.model = open_target(context, scanned)
    state.notes.append(f"The model file was scanned before it was opened: {scanned.summary()}.")
    state.notes.extend(state.model.notes)


def check_sanity(context: StageContext, state: Assessment) -> None:
    """Decode the images and measure the model's own accuracy on them."""
    context.progress(0.0, "Decoding the images")
    images = load_images(context.inputs["data"], context.inputs["label"], state.config)
    state.images = images
    context.progress(0.5, f"Asking the model about {len(images.labels):,} uploaded images")
    state.model, state.target_labels = _best_color_space(state)
    accuracy = float(np.mean(state.target_labels == images.labels))
    context.publish(original_accuracy=accuracy)
    if len(np.unique(state.target_labels)) < 2:
        raise AssessmentError(
            "expected a model that tells at least two classes of the uploaded images apart; it "
            f"gives label {state.target_labels[0]} to all {len(images.labels)} of them. Check "
            "normalize_data, color_space and the model file, or upload a more varied sample."
            f"{measures.hint_at_scale(state)}"
        )
    order = np.random.default_rng([state.config.seed, 1]).permutation(len(images.labels))
    seeds = 0
    if state.config.attack_type is AttackType.GREYBOX:
        seeds = max(1, int(len(order) * SEED_SHARE))
        if seeds == len(order):
            raise AssessmentError(
                "expected at least 2 uploaded images for a grey-box attack (a part seeds the "
                f"queries, the rest scores the clone); got {len(order)}"
            )
    state.seeds, state.scored = np.sort(order[:seeds]), np.sort(order[seeds:])


def _best_color_space(state: Assessment) -> tuple[Model, Labels]:
    """The model as sent, or with the channel order that classifies the upload best."""
    model, images = state.model, state.images
    labels = measures.predicted_labels(model, images.images)
    if state.config.color_space is not None or state.config.input_shape[2] != 3:
        return model, labels
    flipped = model.with_color_space("bgr")
    flipped_labels = measures.predicted_labels(flipped, images.images)
    plain = float(np.mean(labels == images.labels))
    other = float(np.mean(flipped_labels == images.labels))
    chosen = "bgr" if other > plain else "rgb"
    state.notes.append(
        f"color_space was not given; {chosen} was chosen because the model's accuracy on the "
        f"uploaded images is {plain:.4f} with rgb and {other:.4f} with bgr."
    )
    return (flipped, flipped_labels) if chosen == "bgr" else (model, labels)


def attack(context: StageContext, state: Assessment) -> None:
    """Spend the query budget and train the clone."""
    config, model, images, seeds = state.config, state.model, state.images, state.seeds
    target = BudgetedTarget(
        model.predict,
        input_shape=config.input_shape,
        classes=config.number_of_classes,
        access=Access(config.access),
        offers=model.offers,
        budget=config.number_of_attack_queries,
    )
    plan = ExtractionPlan(
        input_shape=config.input_shape,
        classes=config.number_of_classes,
        attack_type=config.attack_type,
        access=config.access,
        budget=config.number_of_attack_queries,
        seed=config.seed,
        seed_images=images.images[seeds] if len(seeds) else None,
    )
    state.result = extract(target, plan, context.progress, AttackNotes(context))
    if target.spent > config.number_of_attack_queries:
        raise AssessmentError(
            f"the attack spent {target.spent} queries of {config.number_of_attack_queries}"
        )


def judge(context: StageContext, state: Assessment) -> None:
    """Score the clone, write the vulnerability report, the samples and the clone itself."""
    context.progress(0.1, "Scoring the clone")
    report = measures.vulnerability_report(context, state)
    state.report = report
    context.publish(score=report.score)
    context.progress(0.4, "Writing attack samples and the surrogate")
    artifacts.write_attack_samples(context, state)
    artifacts.write_surrogate(context, state)
    context.progress(0.6, "Rendering the vulnerability report")
    artifacts.write_report(context, report)
    if not defense_due(report.score, state.config.vulnerability_threshold):
        context.decline_defense()


def defend(context: StageContext, state: Assessment) -> None:
    """Train, measure and package the detector."""
    # training needs torch and the generators; neither is needed where no defence is due
    from modelward.jobs.pipelines.image_extraction.defending import make_defense

    make_defense(context, state, task=TaskType.IMAGE_CLASSIFICATION)
