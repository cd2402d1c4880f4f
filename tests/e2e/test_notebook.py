"""The notebook runs from the first to the last cell in quick mode."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from modelward.siem_sink import LocalSink

NOTEBOOK = Path(__file__).parents[2] / "reference" / "mnist" / "mnist_extraction.ipynb"


def test_it_is_committed_without_outputs():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.slow
def test_it_runs_in_quick_mode(tmp_path, monkeypatch):
    output = tmp_path / "run"
    monkeypatch.setenv("MODELWARD_QUICK", "1")
    monkeypatch.setenv("MODELWARD_OUTPUT", str(output))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=550, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    with LocalSink() as sink:
        monkeypatch.setenv("MODELWARD_SPLUNK_URL", sink.url)
        monkeypatch.setenv("MODELWARD_SPLUNK_AUTHORIZATION", sink.token)
        client.execute()
        events = sink.splunk_events
    printed = "".join(
        part["text"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for part in cell.outputs
        if part.output_type == "stream"
    )
    assert "vulnerability score" in printed
    assert "Attack samples" in printed
    assert 0 < len(events) <= 5
    assert f"splunk: {len(events)} of {len(events)} detections delivered" in printed
    assert sink.token not in json.dumps(notebook)
    results = output / "results"
    assert (results / "defense_artifact" / "predict.py").is_file()
    assert (results / "vulnerability_report" / "Vulnerability.json").is_file()
    assert len(list((results / "attack_samples").rglob("*.png"))) >= 25
    # the service ended with the notebook
    listing = subprocess.run(
        [sys.executable, "-c", _FIND, str(output / "service")], capture_output=True, check=True
    )
    assert listing.stdout.strip() == b""


_FIND = """
import pathlib, sys
for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        text = entry.read_bytes()
    except OSError:
        continue
    if b"serve" in text and sys.argv[1].encode() in text and b"pathlib" not in text:
        print(text)
"""
