import io
import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from defusedxml import ElementTree
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader
from report_samples import defense, job, printed, profile, text_of, vulnerability, xml_text_of

from modelward.domain import (
    Access,
    AttackType,
    ClassView,
    LayerInfo,
    Measured,
    ReportFormat,
    Severity,
    SourceDetection,
    SourceShare,
    ThreatModel,
)
from modelward.reports import layout, render
from modelward.reports.document import Figure
from modelward.reports.figures import draw
from modelward.scoring import measured_rate

NOTHING = Measured(value=None, reason="the archive held no labels")


def nulls():
    return vulnerability(
        original_accuracy=NOTHING,
        extracted_accuracy=NOTHING,
        original=profile(inference_ms=None, layers=()),
        curve=(),
        sources=(),
        per_class=(
            ClassView(label=3, samples=0, original_accuracy=NOTHING, agreement=NOTHING, queries=0),
        ),
        job=job(versions={}, stage_seconds={}, parameters={}),
        references=(),
    )


def test_what_was_not_measured_is_said_and_not_zero():
    for text in (xml_text_of(nulls()), printed(nulls())):
        assert "not measured: no timing was recorded" in text
        assert "not measured: no clone was trained on the way" in text
        assert "0.00 %" not in text
    facts = text_of(nulls())
    assert "Stolen model accuracy not measured: the archive held no labels" in facts
    assert "of the extracted model not measured: the archive held no labels" in facts


def test_a_defence_report_without_measurements_renders():
    report = defense(
        auroc=NOTHING, fpr=NOTHING, tpr=NOTHING, tpr_at_fpr_1e2=NOTHING, tpr_at_fpr_1e3=NOTHING,
        roc=(), unseen=(), encodings=(), limits=(), confusion=((0, 0), (0, 0)),
    )  # fmt: skip
    for text in (text_of(report), xml_text_of(report), printed(report)):
        assert "not measured: the archive held no labels" in text
        assert "not measured: no query family was left out" in text
        assert "that does not mean there are none" in text
        assert "not measured: there were no samples" in text


def test_relative_accuracy_of_a_model_that_is_never_right():
    report = vulnerability(original_accuracy=measured_rate(0, 100))
    assert "not measured: the original model got no image right" in text_of(report)


def test_the_summary_names_the_attacker():
    threat = ThreatModel(
        goal="clone", attack_type=AttackType.GREYBOX, access=Access.PROBABILITIES,
        knowledge="half of the images", budget=500,
    )  # fmt: skip
    text = text_of(vulnerability(threat_model=threat, queries_spent=500))
    assert "An attacker who knows a part of the uploaded images" in text
    assert "sees the probabilities of all classes for each query spent 500 queries" in text
    assert "Answer with labels instead of probabilities" in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vulnerability_threshold": 0.0}, "A defence is recommended; the threshold of 0 asks"),
        ({"vulnerability_threshold": 0.5}, "A defence is recommended: the score is above"),
        (
            {"vulnerability_threshold": 1.0, "defense_recommended": False},
            "No defence is called for by the threshold set for this analysis (1).",
        ),
    ],
)
def test_the_recommendation_follows_the_threshold(changes, sentence):
    assert sentence in text_of(vulnerability(**changes))


def test_the_quota_advice_names_the_first_budget_that_reached_90_per_cent():
    assert "5,000 queries already gave a clone with at least 90 %" in text_of(vulnerability())
    assert "already gave a clone" not in text_of(vulnerability(curve=()))


@pytest.mark.parametrize("level", Severity)
def test_the_badge_has_the_severity(level):
    badge = layout(vulnerability(severity=level)).badge
    assert (badge.value, badge.level) == (level.value, level.value)


def test_the_worst_unseen_family_is_the_headline():
    tile = next(t for t in layout(defense()).tiles if t.label == "Detected, unseen family")
    assert (tile.value, tile.detail) == (
        "92.15 %",
        "the worst, strokes: 90.89 to 93.25 %, n = 2,000",
    )


def test_many_classes_and_layers_are_cut_with_a_note():
    views = tuple(
        ClassView(
            label=label, samples=5, original_accuracy=measured_rate(4, 5),
            agreement=measured_rate(3, 5), queries=7,
        )
        for label in range(1000)
    )  # fmt: skip
    layers = tuple(
        LayerInfo(name=f"layer_{i}", type="Dense", output_shape="(3)", parameters=1)
        for i in range(350)
    )
    report = vulnerability(per_class=views, original=profile(layers=layers))
    text = text_of(report)
    assert "Classes of the model; 900 further classes are in the JSON report" in text
    assert "50 further layers are in the JSON report" in text
    assert "layer_299" in text
    assert "layer_300" not in text
    assert "layer_299" in printed(report)


HOSTILE = '#panic("x") $x^2$ *bold* _it_ [link] <script>alert(1)</script> & ]]> \\n @ref `raw` "q\''


def hostile_vulnerability():
    threat = vulnerability().threat_model.model_copy(update={"knowledge": HOSTILE, "goal": HOSTILE})
    return vulnerability(
        job=job(
            parameters={HOSTILE: HOSTILE, "bell": "a\x07b\x1b[31m"}, versions={HOSTILE: HOSTILE}
        ),
        original=profile(
            HOSTILE,
            layers=(LayerInfo(name=HOSTILE, type="$D$", output_shape="#s", parameters=1),),
        ),
        threat_model=threat,
        sources=(SourceShare(name="$n$ #x", description=HOSTILE, queries=1, share=1.0),),
        notes=(HOSTILE, "null\x00byte \u202etxt.exe \ud800 end"),
    )


def test_hostile_text_is_literal_in_text_and_xml():
    report = hostile_vulnerability()
    text = render(report, ReportFormat.TXT).decode()
    assert "a" + "b[31m" in text
    assert HOSTILE in " ".join(text.split())
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    root = ElementTree.fromstring(render(report, ReportFormat.XML))
    items = [item.text for item in root.findall("section[@id='notes']/list/item")]
    assert items == [HOSTILE, "nullbyte txt.exe  end"]
    assert root.findall(".//script") == []


def test_hostile_text_is_literal_in_pdf():
    text = printed(hostile_vulnerability()).replace(" ", "")
    # as a note and as a version, in regular type; the parameters come in the fixed-width face
    assert text.count(HOSTILE.replace(" ", "")) >= 3
    assert "$n$#x" in text


def test_hostile_names_in_charts():
    names = ("$x$", "<b>&", "#f", "$unclosed", "\\frac{1}{0}$", "a\nb")
    views = tuple(
        SourceDetection(name=name, auroc=measured_rate(1, 2), tpr=measured_rate(k, 9))
        for k, name in enumerate(names)
    )
    report = defense(unseen=views)
    text = printed(report)
    for name in ("$x$", "<b>&", "$unclosed", "\\frac{1}{0}$"):
        assert text.count(name) >= 2  # in the drawing and in the table
    ElementTree.fromstring(render(report, ReportFormat.XML))


def test_a_threshold_outside_the_small_panel_is_not_drawn_beside_it():
    for false_alarms in (1, 40):
        report = defense(fpr=measured_rate(false_alarms, 100))
        blocks = (block for section in layout(report).sections for block in section.blocks)
        svg = draw(next(block for block in blocks if isinstance(block, Figure)).chart)
        # two marks of which the one in the small panel is clipped to it, and one in the legend
        marks = re.findall(r"<g( clip-path[^>]*)?>\s*<use [^>]*style=\"fill: #c2410c", svg)
        assert sorted(map(bool, marks)) == [False, False, True]


def test_an_architecture_named_after_its_part_is_not_named_twice():
    text = text_of(vulnerability(original=profile("Original model")))
    assert "Original model, 46,000 parameters" in text
    assert "Original model: Original model" not in text


@pytest.mark.parametrize(
    "created",
    [
        datetime(2026, 7, 2, 3, 4),  # noqa: DTZ001  # as SQLite hands it out
        datetime(2026, 7, 2, 5, 4, tzinfo=ZoneInfo("Europe/Berlin")),
    ],
)
def test_times_are_shown_in_utc(created):
    report = vulnerability(job=job(created=created))
    assert "Created 2026-07-02 03:04:00 UTC" in printed(report)
    root = ElementTree.fromstring(render(report, ReportFormat.XML))
    assert root.get("created") == "2026-07-02T03:04:00+00:00"


def test_endless_words_are_cut_and_broken_into_lines():
    report = vulnerability(original=profile("x" * 5000), notes=("y" * 3000,))
    assert "(4,920 more characters)" in text_of(report)
    reader = PdfReader(io.BytesIO(render(report, ReportFormat.PDF)))
    lines = [line for page in reader.pages for line in page.extract_text().splitlines()]
    assert max(line.count("y") for line in lines) < 150


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_any_text_makes_well_formed_xml_and_text(value):
    report = vulnerability(original=profile(value), notes=(value,))
    ElementTree.fromstring(render(report, ReportFormat.XML))
    render(report, ReportFormat.TXT).decode("utf-8")
    render(report, ReportFormat.JSON).decode("utf-8")
