"""Names, roles and revocation of keys; the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _keys() -> None:
    with op.batch_alter_table("api_keys") as table:
        table.add_column(sa.Column("handle", sa.String(20), nullable=True))
        table.add_column(sa.Column("label", sa.Text, nullable=True))
        table.add_column(sa.Column("role", sa.String(12), nullable=True))
        table.add_column(sa.Column("revoked", sa.Float, nullable=True))
    # The lasting key of `org create` could do everything; exchanged ones never manage keys.
    op.execute(
        "UPDATE api_keys SET handle = 'key-' || lower(hex(randomblob(8))), "
        "label = CASE WHEN exchanged THEN 'exchanged' ELSE 'first key' END, "
        "role = CASE WHEN exchanged THEN 'submitter' ELSE 'admin' END"
    )
    with op.batch_alter_table("api_keys") as table:
        table.alter_column("handle", existing_type=sa.String(20), nullable=False)
        table.alter_column("label", existing_type=sa.Text, nullable=False)
        table.alter_column("role", existing_type=sa.String(12), nullable=False)
    op.create_index("ix_api_keys_handle", "api_keys", ["handle"], unique=True)


def _audit() -> None:
    op.create_table(
        "audit_log",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("organisation_id", sa.Integer, nullable=True),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_log_no_{change.lower()} BEFORE {change} ON audit_log "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )
    # INSERT OR REPLACE removes a row without a DELETE trigger; a number in use is refused here.
    op.execute(
        "CREATE TRIGGER audit_log_in_order BEFORE INSERT ON audit_log "
        "WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM audit_log) "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    )


def upgrade() -> None:
    """Extend the keys and add the log."""
    _keys()
    _audit()


def downgrade() -> None:
    """Drop both; only good for a test database."""
    op.drop_table("audit_log")
    op.drop_index("ix_api_keys_handle", "api_keys")
    with op.batch_alter_table("api_keys") as table:
        for column in ("handle", "label", "role", "revoked"):
            table.drop_column(column)
