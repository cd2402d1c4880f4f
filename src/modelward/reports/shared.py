"""Sections and tables that every report has."""

from datetime import UTC, datetime

from modelward.domain import JobInfo, Measured, ModelProfile, Reference, Stage
from modelward.reports.document import (
    Block,
    Bullets,
    Code,
    Facts,
    Paragraph,
    Point,
    Section,
    Table,
    Tile,
)
from modelward.reports.words import (
    count,
    duration,
    interval_text,
    milliseconds,
    not_measured,
    parameters,
    percent,
    shape,
    shortened,
)

__all__ = [
    "TASK_NAMES",
    "architecture",
    "chart_point",
    "in_utc",
    "job_facts",
    "notes_section",
    "profile_facts",
    "rate_tile",
    "references_section",
    "repeat_blocks",
    "task_name",
]

TASK_NAMES = {
    "image_classification": "Image classification",
    "extraction": "Model extraction",
}

_STAGE_NAMES: dict[str, str] = {
    Stage.MODEL_EXPLORATION: "Model exploration",
    Stage.SANITY_CHECK: "Sanity check",
    Stage.QUERY_GENERATOR: "Query generation",
    Stage.VULNERABILITY_ENGINE: "Vulnerability engine",
    Stage.EVASION_ANALYSIS: "Evasion analysis",
    Stage.DEFENSE_REPORT: "Defence",
    Stage.SUPPLY_CHAIN: "Supply chain",
}
_MOST_LAYERS = 300


def task_name(value: str) -> str:
    """A task or analysis as words: ``image_classification`` is Image classification."""
    return TASK_NAMES.get(value, value.replace("_", " ").replace("-", " ").capitalize())


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a zone is taken to be UTC, as databases hand it out."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def job_facts(job: JobInfo) -> tuple[tuple[str, str], ...]:
    """Where a report comes from."""
    return (
        ("Job", job.job_id),
        ("Model id", job.model_id),
        ("Task", task_name(job.task_type)),
        ("Analysis", task_name(job.analysis_type)),
        ("Created", f"{in_utc(job.created):%Y-%m-%d %H:%M:%S %Z}"),
        ("Modelward", job.modelward_version),
    )


def profile_facts(profile: ModelProfile) -> tuple[tuple[str, str], ...]:
    """A model in a few lines."""
    return (
        ("Model", shortened(profile.name)),
        ("Framework", shortened(profile.framework)),
        ("Input", shape(profile.input_shape)),
        ("Outputs", count(profile.classes)),
        ("Parameters", parameters(profile)),
        ("Inference, one input on the CPU", milliseconds(profile.inference_ms)),
    )


def rate_tile(label: str, measured: Measured) -> Tile:
    """A measured fraction as a headline number."""
    if measured.value is None:
        return Tile(label, "n/a", not_measured(measured.reason))
    details = [interval_text(measured.interval)] if measured.interval else []
    details += [f"n = {count(measured.n)}"] if measured.n else []
    return Tile(label, percent(measured.value), ", ".join(details))


def chart_point(x: float, measured: Measured) -> Point:
    """A measured fraction as a point of a chart; the caller has checked that it was measured."""
    interval = measured.interval
    ends = (interval.low, interval.high) if interval else (None, None)
    return Point(x, measured.value or 0.0, *ends)


def architecture(profile: ModelProfile, title: str) -> tuple[Block, ...]:
    """The layers of a model."""
    if not profile.layers:
        reason = profile.hidden or "the layers of this model were not recorded"
        return (Paragraph(f"{title}: {reason}."),)
    rows = tuple(
        (shortened(layer.name, 60), layer.type, layer.output_shape, count(layer.parameters))
        for layer in profile.layers[:_MOST_LAYERS]
    )
    left_out = len(profile.layers) - len(rows)
    rest = f"; {left_out:,} further layers are in the JSON report" if left_out else ""
    # Profiles may be named after their part in the report; once is enough.
    name = "" if profile.name == title else f": {shortened(profile.name, 80)}"
    caption = f"{title}{name}, {parameters(profile)} parameters{rest}"
    return (Table(("Layer", "Type", "Output shape", "Parameters"), rows, caption, text_columns=3),)


def repeat_blocks(job: JobInfo) -> tuple[Block, ...]:
    """What it takes to get the same numbers again."""
    lines = [f"seed = {job.seed}"]
    others = sorted((key, value) for key, value in job.parameters.items() if key != "seed")
    lines += [f"{key} = {shortened(str(value))}" for key, value in others]
    blocks: list[Block] = [
        Paragraph(
            "To repeat this assessment, upload the same archives and start the analysis with "
            "these parameters on the same Modelward version. The seed fixes the queries and the "
            "training; another processor or library version may change the last digits."
        ),
        Code("\n".join(lines)),
    ]
    if job.stage_seconds:
        rows = tuple(
            (_STAGE_NAMES.get(name, name), duration(seconds))
            for name, seconds in job.stage_seconds.items()
        )
        blocks.append(Table(("Stage", "Wall time"), rows, "Wall time of the stages so far"))
    if job.versions:
        versions = tuple((name, shortened(v, 60)) for name, v in sorted(job.versions.items()))
        blocks.append(Facts((("modelward", job.modelward_version), *versions), title="Versions"))
    return tuple(blocks)


def references_section(references: tuple[Reference, ...]) -> Section:
    """Public taxonomies that name this weakness."""
    entries = tuple(f"{entry.id}. {entry.title}. {entry.url}" for entry in references)
    return Section("references", "References", (Bullets(entries or ("None were recorded.",)),))


def notes_section(notes: tuple[str, ...]) -> tuple[Section, ...]:
    """Remarks of the run, if there are any."""
    return (Section("notes", "Notes of this run", (Bullets(notes),)),) if notes else ()
