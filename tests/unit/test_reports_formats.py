import io
import zipfile

import pytest
from defusedxml import ElementTree
from pypdf import PdfReader
from report_samples import defense, printed, text_of, vulnerability, xml_text_of

from modelward.domain import ReportFormat
from modelward.reports import layout, render, render_all

MEMBERS = (ReportFormat.TXT, ReportFormat.JSON, ReportFormat.PDF, ReportFormat.XML)
REPORTS = pytest.mark.parametrize("report", [vulnerability(), defense()], ids=["vuln", "defense"])


@REPORTS
def test_every_section_is_in_every_readable_format(report):
    titles = [section.title for section in layout(report).sections]
    text = render(report, ReportFormat.TXT).decode()
    paper = printed(report)
    root = ElementTree.fromstring(render(report, ReportFormat.XML))
    assert [section.get("title") for section in root.findall("section")] == titles
    for number, title in enumerate(titles, start=1):
        assert f"\n{number}. {title}\n" in text
        assert f"{number}. {title}" in paper


def test_vulnerability_sections_that_readers_expect():
    identifiers = [section.id for section in layout(vulnerability()).sections]
    assert identifiers == [
        "executive_summary", "overview", "security", "threat_model", "agreement_curve",
        "query_sources", "per_class", "performance", "severity", "references", "appendix",
    ]  # fmt: skip


def test_defense_sections_that_readers_expect():
    identifiers = [section.id for section in layout(defense(notes=("a note",))).sections]
    assert identifiers == [
        "executive_summary", "overview", "detection", "roc", "confusion_matrix",
        "unseen_families", "encodings", "cost", "limits", "deployment", "notes", "references",
        "appendix",
    ]  # fmt: skip


VULNERABILITY_FACTS = (
    "ic-20261122-6f1d2b7c90e4",
    "99.02 % (95 % interval 98.73 to 99.24 %, n = 6,000)",  # agreement
    "98.75 % (95 % interval 98.44 to 99.00 %, n = 6,000)",  # stolen model accuracy
    "99.45 % of the original's accuracy",  # 5925 / 5958
    "score = max(0, (0.9902 - 0.1123) / (1 - 0.1123)) = 0.9889",
    "20,000 of 20,000",
    "critical",
    "AML.T0024.002",
    "ML05:2023",
    "NIST AI 100-2 E2025",
    "1.84 ms",
    "61,234",
    "BatchNormalization",
    "seed = 42",
    "2.13.0",
)
DEFENSE_FACTS = (
    "99.60 % (95 % interval 99.35 to 99.75 %, n = 4,000)",
    "0.92 % (95 % interval 0.51 to 1.63 %, n = 1,200)",
    "not measured: needs 10,000 benign images",
    "1,189",
    "3,984",
    "JPEG 75-100",
    "the worst, strokes",
    "Queries taken from the model's own data distribution look benign.",
    "AISDefenseModel",
    "0.91 ms",
    "seed = 42",
)


@pytest.mark.parametrize(
    ("report", "facts"), [(vulnerability(), VULNERABILITY_FACTS), (defense(), DEFENSE_FACTS)]
)
def test_the_same_facts_stand_in_text_xml_and_pdf(report, facts):
    texts = text_of(report), xml_text_of(report), printed(report)
    for fact in facts:
        assert [fact in text for text in texts] == [True, True, True], fact


def test_text_is_96_columns_wide_and_tables_line_up():
    lines = render(vulnerability(), ReportFormat.TXT).decode().splitlines()
    assert max(map(len, lines)) == 96
    start = lines.index("Clone agreement by number of queries")
    table = lines[start + 2 : start + 9]
    assert len({len(line) for line in table}) == 1
    assert table[-1].split() == ["20,000", "99.02", "%", "98.73", "to", "99.24", "%", "6,000"]


def test_xml_carries_the_points_of_the_charts_with_all_digits():
    root = ElementTree.fromstring(render(vulnerability(), ReportFormat.XML))
    points = root.findall("section[@id='agreement_curve']/figure/series/point")
    assert [float(point.get("x")) for point in points] == [1000, 2500, 5000, 10000, 20000]
    assert float(points[-1].get("y")) == 5941 / 6000
    assert float(points[0].get("low")) < 4012 / 6000 < float(points[0].get("high"))
    bars = root.findall("section[@id='per_class']/figure/point")
    assert [bar.get("label") for bar in bars] == [f"class {label}" for label in range(10)]


def test_xml_names_report_and_verdict():
    root = ElementTree.fromstring(render(vulnerability(), ReportFormat.XML))
    assert (root.tag, root.get("type")) == ("report", "Vulnerability")
    assert (root.find("verdict").get("name"), root.find("verdict").text) == ("Severity", "critical")
    facts = {f.get("name"): f.text for f in root.findall("section[@id='overview']/facts/fact")}
    assert facts["Alert level"] == "critical"
    assert facts["Defence recommended"] == "yes"


@REPORTS
def test_pdf_is_a_paged_document_with_figures(report):
    pdf = PdfReader(io.BytesIO(render(report, ReportFormat.PDF)))
    assert 3 <= len(pdf.pages) <= 8
    assert pdf.metadata.title == layout(report).title
    last = pdf.pages[-1].extract_text()
    assert f"Page {len(pdf.pages)} of {len(pdf.pages)}" in " ".join(last.split())
    # axis labels exist only inside the drawings
    text = printed(report)
    assert (
        "queries spent" if report.__class__ is type(vulnerability()) else "true positive"
    ) in text


@REPORTS
def test_the_same_report_gives_the_same_bytes(report):
    for name in ReportFormat:
        assert render(report, name) == render(report, name)


@REPORTS
def test_zip_holds_the_four_formats_at_its_root(report):
    stem = layout(report).kind
    with zipfile.ZipFile(io.BytesIO(render(report, ReportFormat.ZIP))) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [f"{stem}.{e}" for e in ("json", "pdf", "txt", "xml")]
        for name in MEMBERS:
            assert archive.read(f"{stem}.{name.value}") == render(report, name)


def test_render_all_writes_every_format_and_the_zip(tmp_path):
    paths = render_all(defense(), tmp_path / "new" / "folder")
    assert {name: path.name for name, path in paths.items()} == {
        name: f"Defense.{name.value}" for name in ReportFormat
    }
    for name in MEMBERS:
        assert paths[name].read_bytes() == render(defense(), name)
    assert zipfile.is_zipfile(paths[ReportFormat.ZIP])
