"""What the defence report says, section by section."""

from dataclasses import replace

from modelward.domain import DefenseReport, Measured
from modelward.reports.defense_details import (
    confusion_section,
    detection_section,
    encodings_section,
    roc_section,
    unseen_section,
)
from modelward.reports.document import (
    Badge,
    Bullets,
    Code,
    Document,
    Facts,
    Paragraph,
    Section,
    Tile,
)
from modelward.reports.shared import (
    architecture,
    in_utc,
    job_facts,
    notes_section,
    profile_facts,
    rate_tile,
    references_section,
    repeat_blocks,
    task_name,
)
from modelward.reports.words import (
    count,
    not_measured,
    percent,
    rate,
    shortened,
)

__all__ = ["defense_document"]

_DEPLOY = """\
import keras                      # or: from tensorflow import keras
from predict import AISDefenseModel

defense = AISDefenseModel(defense_model=keras.models.load_model("defense_model.h5"))
label, probability = defense.predict(images)   # images: (n, height, width, channels)
# label: 'attack' or 'not-attack' per image; probability: of that label"""


def defense_document(report: DefenseReport) -> Document:
    """Lay out a defence report."""
    return Document(
        kind="Defense",
        title="Defence report",
        subtitle=f"{task_name(report.job.task_type)}: detector of "
        f"{task_name(report.job.analysis_type).lower()} queries",
        job_id=report.job.job_id,
        created=in_utc(report.job.created),
        version=report.job.modelward_version,
        badge=_badge(report.tpr),
        tiles=_tiles(report),
        sections=(
            _summary(report),
            _overview(report),
            detection_section(report),
            roc_section(report),
            confusion_section(report),
            unseen_section(report),
            encodings_section(report),
            _cost(report),
            _limits(report),
            _deploy(report),
            *notes_section(report.notes),
            references_section(report.references),
            _appendix(report),
        ),
    )


def _badge(detected: Measured) -> Badge:
    value = "not measured" if detected.value is None else percent(detected.value, 1)
    return Badge("Attacks detected", value, "neutral")


def _tiles(report: DefenseReport) -> tuple[Tile, ...]:
    return (
        rate_tile("Attack queries detected", report.tpr),
        rate_tile("False alarms", report.fpr),
        _worst_tile(report),
        Tile(
            "Latency against model",
            f"{report.cost.ratio:.2f} ×",
            f"{report.cost.detector_ms:.3g} ms against {report.cost.model_ms:.3g} ms, one input",
        ),
    )


def _worst(report: DefenseReport) -> tuple[str, Measured] | None:
    measured = [(view.name, view.tpr) for view in report.unseen if view.tpr.value is not None]
    return min(measured, key=lambda pair: pair[1].value or 0.0, default=None)


def _worst_tile(report: DefenseReport) -> Tile:
    label = "Detected, unseen family"
    worst = _worst(report)
    if worst is None:
        return Tile(label, "n/a", not_measured("no query family was left out"))
    tile = rate_tile(label, worst[1])
    return replace(tile, detail=f"the worst, {shortened(worst[0], 40)}: {tile.detail}")


def _summary(report: DefenseReport) -> Section:
    worst = _worst(report)
    unseen = (
        f"Query families that the detector never saw in training are detected less surely; the "
        f"worst, {shortened(worst[0], 60)}, at {rate(worst[1])}."
        if worst
        else "How well it detects query families it never saw was "
        + not_measured("none was left out")
    )
    return Section(
        "executive_summary",
        "Executive summary",
        (
            Paragraph(
                "A detector was trained that decides for each input whether it looks like an "
                "extraction query. Detected of the attack queries held back from training: "
                f"{rate(report.tpr)}. False alarms on benign images held back: "
                f"{rate(report.fpr)}. The threshold was set for {percent(report.target_fpr)} "
                "false alarms."
            ),
            Paragraph(unseen),
            Paragraph(
                "It sees one input at a time: queries that come from the model's own data "
                "distribution look benign to it. Keep query quotas and logs beside it."
            ),
        ),
    )


def _overview(report: DefenseReport) -> Section:
    return Section(
        "overview",
        "Overview",
        (
            Facts(
                (
                    *job_facts(report.job),
                    *profile_facts(report.detector),
                    ("False alarms aimed at", percent(report.target_fpr)),
                    ("Benign images for training", count(report.benign_train)),
                    ("Benign images for the threshold", count(report.benign_calibration)),
                    ("Benign images for testing", count(report.benign_test)),
                    ("Attack queries for training", count(report.attack_train)),
                    ("Attack queries for testing", count(report.attack_test)),
                )
            ),
        ),
    )


def _cost(report: DefenseReport) -> Section:
    cost = report.cost
    return Section(
        "cost",
        "Cost of a decision",
        (
            Facts(
                (
                    ("Detector, one input", f"{cost.detector_ms:.3g} ms"),
                    ("Model, one input", f"{cost.model_ms:.3g} ms"),
                    ("Ratio", f"{cost.ratio:.2f}"),
                    ("Repetitions", count(cost.repeats)),
                )
            ),
            Paragraph("Median latencies in the same process on this machine's CPU."),
        ),
    )


def _limits(report: DefenseReport) -> Section:
    limits = report.limits or ("No limits were recorded; that does not mean there are none.",)
    return Section("limits", "What this detector cannot see", (Bullets(limits),))


def _deploy(report: DefenseReport) -> Section:
    return Section(
        "deployment",
        "How to deploy",
        (
            Paragraph(
                "The defence artifact is a zip with predict.py and defense_model.h5. predict.py "
                "needs nothing of Modelward; the model loads with Keras 2, Keras 3 and tf.keras."
            ),
            Code(_DEPLOY),
            Bullets(
                (
                    "Images may be normalised (0 to 1) or raw (0 to 255); which of the two is "
                    "recognised row by row.",
                    "The threshold is part of the model: the larger of the two outputs is the "
                    "decision. Column 0 is not-attack, column 1 attack.",
                    "Start by logging decisions only. Compare the rate of alarms on your own "
                    f"traffic with the {percent(report.target_fpr)} it was set for, then block or "
                    "slow down clients with many alarms, not single inputs.",
                    "Make a new detector when the model or its data changes.",
                )
            ),
        ),
    )


def _appendix(report: DefenseReport) -> Section:
    return Section(
        "appendix",
        "Appendix",
        (*architecture(report.detector, "Detector"), *repeat_blocks(report.job)),
    )
