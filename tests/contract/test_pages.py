"""The monitor page and its links."""

import re
import time
from pathlib import Path

import pytest
from live_service import Live, run_live


@pytest.fixture(scope="module")
def done(live: Live) -> dict[str, str]:
    job = live.start_job()
    live.wait(job["job_id"])
    return {"id": job["job_id"], "link": job["monitor_link"]}


def test_page_of_a_finished_job(live: Live, done: dict[str, str]) -> None:
    page = live.http.get(done["link"])
    assert page.status_code == 200
    assert "0.73" in page.text and "medium" in page.text
    assert page.text.count('class="badge completed"') == 4
    assert 'http-equiv="refresh"' not in page.text
    assert "script" not in page.text and "style=" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    sheet = re.search(r'rel="stylesheet" href="([^"]+)"', page.text)
    assert sheet
    assert live.http.get(live.url + sheet[1]).headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("report", ["[1]", "{", '{"score": "high"}', "null"])
def test_a_report_that_cannot_be_read_spoils_no_page(live: Live, report: str) -> None:
    job = live.start_job(report=report)
    live.wait(job["job_id"])
    page = live.http.get(job["monitor_link"])
    assert page.status_code == 200
    assert "0.734" in page.text and "interval" not in page.text


def test_downloads_of_the_page_need_no_key(live: Live, done: dict[str, str]) -> None:
    page = live.http.get(done["link"]).text
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]*/files/[^"]+)"', page)]
    # two reports in four formats and as zip, three artifacts
    assert len(links) == 13
    for link in links:
        answer = live.http.get(live.url + link)
        assert answer.status_code == 200
        assert "attachment" in answer.headers["content-disposition"]


def test_page_of_a_running_job_refreshes_itself_and_escapes(live: Live) -> None:
    (live.data / "release").unlink(missing_ok=True)
    job = live.start_job(behaviour="block", title="<script>alert(1)</script>")
    live.wait(job["job_id"], lambda status: status["CurrentStatus"].startswith("Held"))
    page = live.http.get(job["monitor_link"]).text
    assert 'http-equiv="refresh"' in page
    assert "Held &lt;b&gt;back&lt;/b&gt;" in page
    assert "<script>" not in page
    (live.data / "release").touch()
    live.wait(job["job_id"])


def test_page_of_a_failed_job_says_why(live: Live) -> None:
    job = live.start_job(behaviour="refuse")
    live.wait(job["job_id"])
    page = live.http.get(job["monitor_link"]).text
    assert "expected a picture; got noise" in page
    # the job, and the one stage that was at work; what never began did not fail
    assert page.count('class="badge failed"') == 2
    assert page.count('class="badge not run"') == 2


def test_foreign_and_tampered_tokens_are_403(live: Live, done: dict[str, str]) -> None:
    other = live.start_job()
    token = other["monitor_link"].split("token=")[1]
    upload = live.register("IC")["urls"]["data_upload_url"].split("token=")[1]
    own = done["link"].split("token=")[1]
    changed = own[:-5] + ("A" if own[-5] != "A" else "B") + own[-4:]
    for wrong in ("", token, upload, changed, own + "x", own.split(".")[0]):
        for path in (f"/jobs/{done['id']}", f"/jobs/{done['id']}/files/Vulnerability"):
            answer = live.http.get(live.url + path, params={"token": wrong})
            assert answer.status_code == 403
            assert "token" in answer.text


def test_view_links_expire(tmp_path: Path) -> None:
    with run_live(tmp_path / "data", view_lifetime_seconds=1) as live:
        job = live.start_job()
        time.sleep(1.1)
        answer = live.http.get(job["monitor_link"])
        assert answer.status_code == 403
        assert "expired" in answer.text
        assert live.status(job["job_id"])
