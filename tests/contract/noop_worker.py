"""A job process whose pipeline attacks nothing: quick, and it misbehaves on request.

The request's own key ``behaviour`` (unknown to the service, so kept and handed on) chooses.
"""

import io
import os
import signal
import sys
import time
import zipfile
from collections.abc import Callable

from modelward.domain import AssessmentError, Stage
from modelward.jobs import Pipeline, Snapshot, StageContext, register
from modelward.jobs.worker import main

SCORE, ACCURACY = 0.734, 0.9931


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def report_of(what: str, kind: str) -> bytes:
    """What stands for a report; JSON that parses."""
    return f'{{"report": "{what}"}}'.encode() if kind == "json" else f"{what} {kind}".encode()


def _misbehave(context: StageContext) -> None:
    behaviour = context.payload.get("behaviour")
    if behaviour == "refuse":
        raise AssessmentError("image 3.png: expected a picture; got noise")
    if behaviour == "sandbox":
        raise AssessmentError(context.sandbox.model_dump_json())
    if behaviour == "bug":
        raise ZeroDivisionError("a bug")
    if behaviour == "exit":
        os._exit(7)
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour in _SLOW:
        _SLOW[behaviour](context)


def _hog(context: StageContext) -> None:
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(2**20)) * 20)
        context.progress(0.5, "Hoarding")
        time.sleep(0.05)


def _burn(context: StageContext) -> None:
    end = time.monotonic() + float(context.payload.get("seconds", 5))
    while time.monotonic() < end:
        context.progress(0.5, "Burning")


def _block(context: StageContext) -> None:
    release = context.workdir.parent.parent / "release"
    while not release.exists():
        context.progress(0.25, "Held <b>back</b>")
        time.sleep(0.05)


def _steps(context: StageContext) -> None:
    """Many small steps with a note after each; waits for leave after the third."""
    found = context.recall("steps")
    done = int(found.values["done"]) if found else 0
    folder = context.workdir.parent.parent
    while done < 6:
        done += 1
        with (folder / f"{context.job_id}.trace").open("a") as file:
            file.write(f"step{done}\n")
        context.note("steps", Snapshot({"done": done}))
        while done == 3 and not (folder / "release").exists() and not context.stopping():
            context.progress(done / 6, f"Step {done}")
            time.sleep(0.05)


_SLOW = {"hog": _hog, "burn": _burn, "block": _block, "steps": _steps}


def _traced(work: Callable[[StageContext], None]) -> Callable[[StageContext], None]:
    def run(context: StageContext) -> None:
        with (context.workdir.parent.parent / f"{context.job_id}.trace").open("a") as file:
            file.write(f"{work.__name__}\n")
        work(context)

    return run


def explore(context: StageContext) -> None:
    for slot, path in context.inputs.items():
        if not zipfile.is_zipfile(path):
            raise AssessmentError(f"{slot}: expected a zip")
    context.publish(original_accuracy=ACCURACY)


def check(context: StageContext) -> None:
    context.progress(1.0, "Checked")


def query(context: StageContext) -> None:
    _misbehave(context)


def score(context: StageContext) -> None:
    context.publish(score=SCORE)
    for kind in ("json", "txt", "xml", "pdf"):
        content = str(context.payload.get("report", "")).encode() if kind == "json" else b""
        context.put_artifact(f"Vulnerability.{kind}", content or report_of("vulnerability", kind))
    samples = context.workdir / "samples.zip"
    samples.write_bytes(_zip({f"{n}.png": b"\x89PNG" for n in range(25)}))
    context.put_artifact("Attack_samples.zip", samples)
    context.put_artifact("Surrogate_model.zip", _zip({"surrogate_model.h5": b"clone"}))


def defend(context: StageContext) -> None:
    if context.payload.get("behaviour") == "fail-late":
        raise AssessmentError("the detector did not train")
    threshold = context.config.vulnerability_threshold
    if threshold > 0 and threshold >= SCORE:
        context.decline_defense()
    for kind in ("json", "txt", "xml", "pdf"):
        context.put_artifact(f"Defense.{kind}", report_of("defense", kind))
    context.put_artifact(
        "Defense_artifact.zip", _zip({"predict.py": b"", "defense_model.h5": b"detector"})
    )


def build() -> Pipeline:
    return Pipeline(
        stages=(
            (Stage.MODEL_EXPLORATION, _traced(explore)),
            (Stage.SANITY_CHECK, _traced(check)),
            (Stage.QUERY_GENERATOR, _traced(query)),
            (Stage.VULNERABILITY_ENGINE, _traced(score)),
            (Stage.DEFENSE_REPORT, _traced(defend)),
        ),
        save=lambda _context, _stage: Snapshot(),
        restore=lambda _context, _stage, _left: None,
    )


if __name__ == "__main__":
    register("image_classification", "extraction", build, replace=True)
    sys.exit(main())
