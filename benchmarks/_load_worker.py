"""The job process of ``load.py``: a pipeline that does nothing, unless the request says ``real``.

The request is looked up before anything is registered, so that the pipeline which does nothing
runs in a process that never imports torch; its last stage makes sure of that.
"""

import json
import sqlite3
import sys
from pathlib import Path

from modelward.domain import AssessmentError, Stage
from modelward.jobs import Pipeline, StageContext, register
from modelward.jobs.worker import main

SCORE = 0.5
HEAVY = ("torch", "keras", "tensorflow", "sklearn")


def _nothing(context: StageContext) -> None:
    context.progress(1.0, "Nothing to do")


def _score(context: StageContext) -> None:
    context.publish(score=SCORE)
    context.put_artifact("Vulnerability.json", json.dumps({"job": context.job_id}).encode())


def _last(_context: StageContext) -> None:
    if found := [name for name in HEAVY if name in sys.modules]:
        raise AssessmentError(f"expected a worker without {found[0]}; it was imported")


def build() -> Pipeline:
    """The stages of an extraction, empty."""
    return Pipeline(
        stages=(
            (Stage.MODEL_EXPLORATION, _nothing),
            (Stage.SANITY_CHECK, _nothing),
            (Stage.QUERY_GENERATOR, _nothing),
            (Stage.VULNERABILITY_ENGINE, _score),
            (Stage.DEFENSE_REPORT, _last),
        )
    )


def _is_real() -> bool:
    given = dict(zip(sys.argv[1:], sys.argv[2:], strict=False))
    database = Path(given["--data"]) / "modelward.db"
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        row = connection.execute("SELECT payload FROM jobs WHERE id = ?", (given["--job"],))
        return bool(json.loads(row.fetchone()[0]).get("load") == "real")
    finally:
        connection.close()


if __name__ == "__main__":
    if not _is_real():
        register("image_classification", "extraction", build, replace=True)
    sys.exit(main())
