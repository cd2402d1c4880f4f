"""Attempts, fair order, idempotency keys, and what retention and the end of a job leave behind."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what a job needs to survive its worker."""
    op.add_column(
        "jobs", sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0"))
    )
    op.add_column(
        "jobs", sa.Column("ran_seconds", sa.Float, nullable=False, server_default=sa.text("0"))
    )
    for name in ("not_before", "announced", "purged"):
        op.add_column("jobs", sa.Column(name, sa.Float, nullable=True))
    op.add_column("organisations", sa.Column("served", sa.Float, nullable=True))
    # whoever listens for ends of jobs must not hear of those from before
    op.execute("UPDATE jobs SET announced = finished WHERE finished IS NOT NULL")
    op.create_index("ix_jobs_organisation", "jobs", ["state", "organisation_id", "created"])
    op.create_index("ix_jobs_registration", "jobs", ["registration_id"])
    op.create_index("ix_jobs_announced", "jobs", ["announced", "state"])
    op.create_table(
        "idempotency_keys",
        sa.Column(
            "organisation_id", sa.Integer, sa.ForeignKey("organisations.id"), primary_key=True
        ),
        sa.Column(
            "registration_id", sa.String(36), sa.ForeignKey("registrations.id"), primary_key=True
        ),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(40), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_index("ix_idempotency_keys_job", "idempotency_keys", ["job_id"])


def downgrade() -> None:
    """Drop what was added; only good for a test database."""
    op.drop_table("idempotency_keys")
    for name in ("ix_jobs_organisation", "ix_jobs_registration", "ix_jobs_announced"):
        op.drop_index(name, "jobs")
    with op.batch_alter_table("jobs") as batch:
        for name in ("attempts", "ran_seconds", "not_before", "announced", "purged"):
            batch.drop_column(name)
    with op.batch_alter_table("organisations") as batch:
        batch.drop_column("served")
