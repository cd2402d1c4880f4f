"""Where tenants are kept apart: the condition, and the short list of those who do without it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Integer, MetaData, Table, select

import modelward
from modelward.domain import AnalysisType, ConflictError, NotFoundError, TaskType, UploadDialect
from modelward.jobs.database import Database
from modelward.jobs.registrations import Registrations, Upload
from modelward.jobs.scope import owned_by
from modelward.jobs.store import JobStore
from modelward.jobs.tables import api_keys, artifacts, jobs, registrations, uploads
from modelward.jobs.tenants import Tenants
from modelward.settings import Settings

SOURCES = Path(modelward.__file__).parent

UNSCOPED = {
    # the worker and the dispatcher serve every tenant
    ("jobs/runner.py", "run_job"),
    ("jobs/store.py", "claim"),
    ("jobs/dispatcher.py", "start"),
    ("jobs/dispatcher.py", "_check"),
    ("jobs/dispatcher.py", "_hold"),
    ("jobs/dispatcher.py", "_reap"),
    # a signed link decided already
    ("jobs/visits.py", "job"),
    ("jobs/uploads.py", "admit"),
    # the operator: metrics, and commands on the data folder
    ("jobs/service.py", "job_counts"),
    ("jobs/store.py", "cancel_unscoped"),
    ("jobs/store.py", "cancel"),
    ("jobs/upkeep.py", "cancel_job"),
    ("cli/key.py", "_run"),
    ("cli/org.py", "_list"),
}
"""Functions that may call a method whose name ends in ``_unscoped``."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_only_the_listed_places_do_without_a_tenant() -> None:
    found = set()
    for path in SOURCES.rglob("*.py"):
        for function in functions(ast.parse(path.read_text())):
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and node.attr.endswith("_unscoped"):
                    found.add((path.relative_to(SOURCES).as_posix(), function.name))
    assert found == UNSCOPED


def test_tables_are_read_in_the_jobs_room_only() -> None:
    for path in SOURCES.rglob("*.py"):
        room = path.relative_to(SOURCES).parts[0]
        text = path.read_text()
        if room != "jobs":
            assert not re.search(r"(import|from) (sqlalchemy|modelward\.jobs\.tables)", text), path


@pytest.mark.parametrize("table", [jobs, registrations, api_keys, uploads, artifacts])
def test_the_condition_names_the_organisation(table: Table) -> None:
    text = str(select(table.c[0]).where(owned_by(table, 7)))
    assert "organisation_id = :organisation_id" in text


def test_a_table_without_an_owner_is_no_tenant_table() -> None:
    from sqlalchemy import Column

    with pytest.raises(AttributeError, match="organisation_id"):
        owned_by(Table("other", MetaData(), Column("id", Integer)), 1)


def test_nothing_of_another_organisation_is_read_or_changed(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.migrate()
    tenants = Tenants(database, Settings(data=tmp_path), lambda: 1.0)
    mine, other = (tenants.authenticate(tenants.create(n).api_key).organisation for n in "ab")
    models, store = Registrations(database, lambda: 1.0), JobStore(database, lambda: 1.0)
    model = models.add(
        mine, TaskType.IMAGE_CLASSIFICATION, AnalysisType.EXTRACTION, UploadDialect.PUT
    ).id
    models.record(model, Upload("data", "blob", 1), mine)
    with pytest.raises(NotFoundError, match="model_id"):
        models.get(model, other)
    with pytest.raises(ConflictError, match="before the analysis"):
        models.record(model, Upload("data", "evil", 1), other)
    assert models.uploads(model, other) == {}
    assert models.uploads(model, mine)["data"].blob == "blob"
    # a job of the other organisation on this model finds no such file
    with pytest.raises(ConflictError, match="uploaded again"):
        store.add(
            job_id="job", organisation=other, model_id=model, pair=("t", "a"), payload={},
            config={}, inputs={"data": "blob"}, stages=(),
        )  # fmt: skip
    store.add(
        job_id="job", organisation=mine, model_id=model, pair=("t", "a"), payload={},
        config={}, inputs={"data": "blob"}, stages=(),
    )  # fmt: skip
    with pytest.raises(NotFoundError, match="job_id"):
        store.get("job", other)
    assert store.artifacts("job", other) == {}
    assert store.get("job", mine).id == "job"
