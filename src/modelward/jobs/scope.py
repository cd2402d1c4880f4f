"""The one condition that keeps tenants apart.

Every query made for a tenant carries ``owned_by``. Code that has no tenant (a worker, the
dispatcher, whoever holds a signed link) uses methods whose names end in ``_unscoped``; a test
lists the places that may.
"""

from typing import Any

from sqlalchemy import ColumnElement, Table, select

from modelward.jobs.tables import artifacts, jobs, registrations, uploads

__all__ = ["owned_by"]

_PARENTS: dict[str, tuple[str, Table]] = {
    uploads.name: ("registration_id", registrations),
    artifacts.name: ("job_id", jobs),
}
"""Tables without an owner of their own: the column that names the parent, and the parent."""


def owned_by(table: Table, organisation: int) -> ColumnElement[Any]:
    """The condition that a row of ``table`` belongs to an organisation.

    Args:
        table: One with a column ``organisation_id``, or a child of such a one.
        organisation: Internal number of the organisation.
    """
    if table.name in _PARENTS:
        column, parent = _PARENTS[table.name]
        return table.c[column].in_(select(parent.c.id).where(owned_by(parent, organisation)))
    condition: ColumnElement[Any] = table.c.organisation_id == organisation
    return condition
