"""A service in memory that speaks the contract, for tests of the SDK and the command line."""

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import httpx

from modelward.client import RetryPolicy

ORG = "org-0123456789abcdef"
KEY = "key-fedcba9876543210"
TOKEN = "token-a1b2c3d4"
SENTENCE = "Defense generation is not triggered"
STAGES = (
    "ModelExploration_Status",
    "SanityCheck_Status",
    "QueryGenerator_Status",
    "VunerabilityEngine_Status",
    "EvasionAnalysis_Status",
    "DefenseReport_Status",
    "SupplyChainStatus",
)
NO_WAIT = RetryPolicy(sleep=lambda _: None)


def png(width=28, height=28, color_type=0):
    """A whole PNG file, all black."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    rows = (b"\0" + b"\0" * (width * channels)) * height
    palette = chunk(b"PLTE", b"\0\0\0") if color_type == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def zip_of(members):
    """Bytes of a zip with the given members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sample_files(folder: Path, labels=(0, 1, 2, 1)):
    """Write images, a label csv and a model file; return the arguments for assess."""
    images = folder / "images"
    images.mkdir(parents=True)
    rows = ["image,label"]
    for index, label in enumerate(labels):
        (images / f"{index}.png").write_bytes(png())
        rows.append(f"{index}.png,{label}")
    (folder / "label.csv").write_text("\n".join(rows) + "\n")
    (folder / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\nmodel")
    return {
        "model": folder / "model.h5",
        "data": images,
        "labels": folder / "label.csv",
    }


def status_body(current="busy", score="na", **stages):
    body = dict.fromkeys(STAGES, "na")
    body.update(stages)
    return {**body, "CurrentStatus": current, "VulnerabiltyScore": score,
            "OriginalModelAccuracy": "0.99"}  # fmt: skip


class FakeService:
    """Handler for httpx.MockTransport; ``script`` holds answers to give before the real ones."""

    base = "http://fake.test/api/ais/v1.5"

    def __init__(self, score=0.9, defense=True, failure="", late=False):
        self.score, self.defense, self.failure = score, defense, failure
        self.late = late  # the failure comes while the defence is made
        self.requests, self.uploads, self.payload = [], {}, None
        self.polls = 0
        self.script = {}
        self.broken = set()
        self.missing = set()

    @property
    def transport(self):
        return httpx.MockTransport(self)

    def fail_next(self, path, *answers):
        """Give these answers (responses or exceptions) to the next calls of ``path``."""
        self.script.setdefault(path, []).extend(answers)

    def __call__(self, request):
        request.read()
        self.requests.append(request)
        path = request.url.path.removeprefix("/api/ais/v1.5")
        waiting = self.script.get(path)
        if waiting:
            answer = waiting.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer
        if path.startswith("/upload/"):
            return self._upload(request, path.removeprefix("/upload/"))
        if path == "/get_aws_api_key":
            known = request.headers.get("org-id") == ORG
            return httpx.Response(200 if known else 401, json={"x_api_key": KEY})
        if request.headers.get("x-api-key") != KEY:
            return httpx.Response(403, json={"message": "expected a valid x-api-key"})
        handlers = {
            "/model_registration/upload": self._register,
            "/job_status_detailed": self._status,
            "/get_report": self._report,
        }
        if path.startswith("/model_analyse/"):
            return self._analyse(request)
        return handlers[path](request)

    def _register(self, request):
        put = json.loads(request.content)["task_type"] == "IC"
        urls = {}
        for slot in ("data", "label", "model"):
            url = f"{self.base}/upload/{slot}?token={TOKEN}"
            urls[f"{slot}_upload_url"] = url if put else {"url": url, "fields": {"key": slot}}
        sample = {"number_of_attack_queries": 20000, "color_space": "rgb", "access": "labels",
                  "vulnerability_threshold": "0"}  # fmt: skip
        return httpx.Response(
            200, json={"data": {"model_id": "m-1", "urls": urls, "model_analysis_payload": sample}}
        )

    def _upload(self, request, slot):
        if request.url.params.get("token") != TOKEN or "x-api-key" in request.headers:
            return httpx.Response(403, json={"message": "bad token"})
        content = request.content
        if request.method == "POST":
            boundary = request.headers["content-type"].split("boundary=")[1].encode()
            parts = content.split(b"--" + boundary)[1:-1]
            assert b'name="key"' in parts[0] and slot.encode() in parts[0]
            assert b'name="file"' in parts[1]
            content = parts[1].split(b"\r\n\r\n", 1)[1][:-2]
        self.uploads[slot] = content
        return httpx.Response(204 if request.method == "POST" else 200)

    def _analyse(self, request):
        self.payload = json.loads(request.content)
        answer = {"job_id": "job-1", "monitor_link": f"http://fake.test/jobs/job-1?view={TOKEN}"}
        return httpx.Response(200, json=answer)

    def _status(self, request):
        self.polls += 1
        running = {"ModelExploration_Status": "completed", "SanityCheck_Status": "passed"}
        if self.polls == 1:
            return httpx.Response(200, json=status_body(**running))
        if self.late:
            done = {"VunerabilityEngine_Status": "completed", "DefenseReport_Status": "failed"}
            body = status_body(self.failure, f"{self.score:.2f}", **running, **done)
            return httpx.Response(200, json=body)
        if self.failure:
            stages = dict.fromkeys(("VunerabilityEngine_Status", "DefenseReport_Status"), "failed")
            body = status_body(self.failure, **running, **stages)
            return httpx.Response(200, json=body)
        done = {**running, "QueryGenerator_Status": "completed",
                "VunerabilityEngine_Status": "completed"}  # fmt: skip
        current = SENTENCE
        if self.defense:
            done["DefenseReport_Status"], current = "completed", "completed"
        return httpx.Response(200, json=status_body(current, f"{self.score:.2f}", **done))

    def _report(self, request):
        kind = request.url.params["report_type"]
        if kind in self.broken:
            return httpx.Response(200, content=b"oops")
        content = self.reports().get(kind)
        if content is None or kind in self.missing:
            return httpx.Response(404, json={"message": f"no {kind} here"})
        if request.url.params["file_format"] == "3":
            return httpx.Response(200, content=b"{}")
        return httpx.Response(200, content=zip_of(content))

    def reports(self):
        vulnerability = {
            "Extracted Model Accuracy": 0.97,
            "Original Model Accuracy": 0.99,
            "modelward": {"score": self.score, "queries_spent": 200,
                          "score_interval": {"low": 0.81, "high": 0.95},
                          "agreement": {"value": 0.975, "n": 4,
                                        "interval": {"low": 0.9, "high": 0.99}}},
            "warnings": ["the labels look odd; check normalize_data"],
        }  # fmt: skip
        found = {
            "Vulnerability": {"Vulnerability.json": json.dumps(vulnerability),
                              "Vulnerability.txt": "report"},
            "Attack_samples": {f"{i}.png": png() for i in range(25)},
            "Surrogate_model": {"surrogate_model.h5": b"\x89HDF"},
        }  # fmt: skip
        if self.defense:
            found["Defense"] = {
                "Defense.json": json.dumps({"tpr": {"value": 0.995}, "fpr": {"value": 0.01}})
            }
            found["Defense_artifact"] = {"predict.py": "", "defense_model.h5": b"\x89HDF"}
        return found
