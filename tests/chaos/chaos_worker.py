"""The job process of the chaos run: quick stages that carry a value from one to the next.

The value is a chain of SHA-256 over the request's seed. Whoever loses a step, or takes one twice,
ends with another value. Requests with ``real`` go to the real pipeline.
"""

import hashlib
import io
import json
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from pypdf import PdfWriter

from modelward.domain import Stage
from modelward.jobs import Pipeline, Snapshot, StageContext, register
from modelward.jobs.worker import main

STAGES = (
    Stage.MODEL_EXPLORATION,
    Stage.SANITY_CHECK,
    Stage.QUERY_GENERATOR,
    Stage.VULNERABILITY_ENGINE,
    Stage.DEFENSE_REPORT,
)
STEPS = 6
"""Steps with a note after each, in every stage."""
PAUSE = 0.03


def link(value: str) -> str:
    """The next value of the chain."""
    return hashlib.sha256(value.encode()).hexdigest()


def last_value(seed: int) -> str:
    """What a job that did every step once must end with."""
    value = str(seed)
    for _ in range(STEPS * len(STAGES)):
        value = link(value)
    return value


def _pdf(text: str) -> bytes:
    writer, buffer = PdfWriter(), io.BytesIO()
    writer.add_blank_page(100, 100)
    writer.add_metadata({"/Title": text})
    writer.write(buffer)
    return buffer.getvalue()


def _stage(which: Stage) -> Callable[[StageContext], None]:
    def run(context: StageContext) -> None:
        value = context.shared.get("value", str(context.config.seed))
        found = context.recall(which.value + "_steps")
        step = 0
        if found is not None:
            value, step = str(found.values["value"]), int(found.arrays["step"])
        while step < STEPS:
            time.sleep(PAUSE)
            value, step = link(value), step + 1
            if context.note_due():
                context.note(
                    which.value + "_steps", Snapshot({"value": value}, {"step": np.array(step)})
                )
            context.progress(step / STEPS, f"Step {step}")
        context.shared["value"] = value
        if which in (Stage.VULNERABILITY_ENGINE, Stage.DEFENSE_REPORT):
            name = "Vulnerability" if which is Stage.VULNERABILITY_ENGINE else "Defense"
            context.publish(score=0.5)
            context.put_artifact(f"{name}.json", json.dumps({"value": value}).encode())
            context.put_artifact(f"{name}.xml", f"<report>{value}</report>".encode())
            context.put_artifact(f"{name}.txt", value.encode())
            context.put_artifact(f"{name}.pdf", _pdf(value))

    return run


def _restore(context: StageContext, _stage: Stage, left: Snapshot) -> None:
    context.shared["value"] = left.values["value"]


def build() -> Pipeline:
    return Pipeline(
        stages=tuple((which, _stage(which)) for which in STAGES),
        save=lambda context, _stage: Snapshot({"value": context.shared["value"]}),
        restore=_restore,
    )


def _wants_the_real_one(arguments: list[str]) -> bool:
    data, job = (Path(arguments[arguments.index(name) + 1]) for name in ("--data", "--job"))
    with closing(sqlite3.connect(data / "modelward.db", timeout=30)) as connection:
        row = connection.execute("SELECT payload FROM jobs WHERE id = ?", (str(job),)).fetchone()
    return bool(json.loads(row[0]).get("real"))


if __name__ == "__main__":
    if not _wants_the_real_one(sys.argv):
        register("image_classification", "extraction", build, replace=True)
    sys.exit(main())
