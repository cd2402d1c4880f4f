"""Texts from users through the real renderers: pages, PDF, XML, text, and headers."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from defusedxml import ElementTree
from report_samples import job as report_job
from report_samples import printed, profile, vulnerability

from modelward.domain import ReportFormat, Stage, StageStatus
from modelward.jobs import Job, JobState, JobView
from modelward.reports import render
from modelward.web.pages import _TEMPLATES, _page
from modelward.web.responses import content_disposition

SCRIPTS = (
    "<script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- --><b>bold</b>",
    "javascript:alert(1)",
)
TYPST = (
    '#eval("1+1")',
    '#import "/etc/passwd": *',
    '#read("/etc/passwd")',
    '#include "x.typ"',
    "#panic()",
    "a\\b\\",
    "`raw` ```block```",
    "*bold* _italic_ $x^2$ @reference <label>",
    "= heading",
    "- list + enum / term: x",
    "[content] {code} ]",
    "// comment /* more",
    "~ -- --- ...",
    "\\u{1F600}",
)
XML = (
    "&xxe; &amp; &#x41; &lt;",
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    "]]> <![CDATA[ x",
    "<?xml version='1.0'?>",
    "</report><report>",
)
ALL = SCRIPTS + TYPST + XML
CONTROL = "a\x00b\x1b[31mc\x07d\u202ee\u2028f\r\nSet-Cookie: g"


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u200b\u00ad]+", "", text)


def view(**changes: object) -> JobView:
    values: dict[str, object] = {
        "id": "job-0123456789abcdef", "organisation": 1, "model_id": "m", "task": "t",
        "analysis": "a", "payload": {}, "config": {}, "inputs": {},
        "state": JobState.RUNNING, "stages": {Stage.SANITY_CHECK: StageStatus.IN_PROGRESS},
        "stage_seconds": {}, "message": "m", "progress": 0.5, "score": None,
        "original_accuracy": None, "created": 0.0,
    }  # fmt: skip
    return JobView(job=Job(**(values | changes)), artifacts={})  # type: ignore[arg-type]


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(source: str, plain: str, *texts: str) -> None:
    """The page has the same elements and attributes as one without the texts, and shows them."""
    seen, wanted = Page(source), Page(plain)
    assert seen.tags == wanted.tags
    assert [name for name, _ in seen.attributes] == [name for name, _ in wanted.attributes]
    assert not any(name.startswith("on") for name, _ in seen.attributes)
    for text in texts:
        assert squeezed(text) in squeezed(seen.text)


@pytest.mark.parametrize("text", [*ALL, CONTROL.replace("\x00", "")])
def test_monitor_page(text: str) -> None:
    plain = _page(view(config={"name": "x"}), "t", "")
    source = _page(view(message=text, config={text: text}, model_id=text, task=text), "t", "")
    check_page(source, plain, text)


@pytest.mark.parametrize("text", ALL)
def test_warnings_on_the_page(text: str) -> None:
    measured = {"score": 0.9, "original_accuracy": 0.99, "state": JobState.SUCCEEDED}
    shown = [
        replace(view(**measured), report=vulnerability(warnings=(warning,)))
        for warning in ("plain", text)
    ]
    plain, source = (_page(one, "t", "") for one in shown)
    check_page(source, plain, text, "95 % interval 0.986 to 0.991", "on 6,000 uploaded images")


@pytest.mark.parametrize("text", ALL)
def test_links_of_the_page_hold_no_foreign_attribute(text: str) -> None:
    page = Page(_page(view(), text, ""))
    assert all(value is None or "alert" not in value for _, value in page.attributes)


@pytest.mark.parametrize("text", ALL)
def test_error_page(text: str) -> None:
    template = _TEMPLATES.get_template("error.html")
    plain = template.render(root="", status=403, message="x")
    check_page(template.render(root="", status=403, message=text), plain, text)


def report(text: str) -> object:
    return vulnerability(
        job=report_job(parameters={text: text}), original=profile(text), notes=(text,)
    )


def test_pdf_prints_markup_as_it_is() -> None:
    parameters = {f"p{number} {text}": text for number, text in enumerate(ALL)}
    seen = squeezed(printed(vulnerability(job=report_job(parameters=parameters), notes=ALL)))
    for text in ALL:
        # as the name and the value of a parameter, and as a note
        assert seen.count(squeezed(text)) >= 3, text


@pytest.mark.parametrize("text", [TYPST[0], TYPST[8]])
def test_pdf_prints_markup_in_the_name_of_a_model(text: str) -> None:
    assert squeezed(text) in squeezed(printed(report(text)))


def test_pdf_reads_no_file_for_a_name(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("do not print this")
    texts = " ".join(f'#{call}("{secret}")' for call in ("read", "include", "image", "eval"))
    assert "donotprintthis" not in squeezed(printed(report(texts)))


@pytest.mark.parametrize("text", [*ALL, CONTROL])
def test_xml_is_well_formed_and_carries_the_text(text: str) -> None:
    source = render(report(text), ReportFormat.XML)
    root = ElementTree.fromstring(source, forbid_dtd=True)
    notes = [item.text for item in root.findall("section[@id='notes']/list/item")]
    assert len(notes) == 1
    if text in ALL:
        assert squeezed(notes[0]) == squeezed(text)
    plain = ElementTree.fromstring(render(report("x"), ReportFormat.XML))
    assert {element.tag for element in root.iter()} == {element.tag for element in plain.iter()}
    assert not set(source.decode()) & set("\x00\x1b\x07\u202e")


def test_text_formats_hold_no_raw_control_characters() -> None:
    text = render(report(CONTROL), ReportFormat.TXT).decode()
    assert not set(text) & set("\x00\x1b\x07\r\u202e\u2028")
    # JSON is data: every character is there, those that control something are escaped
    data = render(report(CONTROL), ReportFormat.JSON).decode()
    assert json.loads(data)["notes"] == [CONTROL]
    assert not set(data) & set("\x00\x1b\x07\r")


@pytest.mark.parametrize(
    "name",
    [
        'a"b.zip', "a\r\nSet-Cookie: x=1.zip", "..\\..\\a.zip", "../../a.zip", "\u202egpj.exe",
        "r\u00e9sum\u00e9.pdf", "a;filename=b.exe", "\x00.zip", "", "<script>.zip", "%0d%0aX: y",
        "\udcff.zip", "a'b*c.zip",
    ],
)  # fmt: skip
def test_file_names_cannot_leave_their_header(name: str) -> None:
    header = content_disposition(name)
    assert header.isascii() and header.isprintable()
    assert re.fullmatch(
        r"""attachment; filename="[A-Za-z0-9._ -]+"(; filename\*=UTF-8''[A-Za-z0-9._~%-]+)?""",
        header,
    )


def test_plain_names_stay_as_they_are() -> None:
    assert content_disposition("Vulnerability_0123.pdf") == (
        'attachment; filename="Vulnerability_0123.pdf"'
    )
