"""Tables of the service's database (SQLAlchemy Core); times are seconds since 1970, UTC."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

__all__ = [
    "api_keys",
    "artifacts",
    "audit_log",
    "idempotency_keys",
    "jobs",
    "metadata",
    "organisations",
    "registrations",
    "uploads",
]

metadata = MetaData()

organisations = Table(
    "organisations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("created", Float, nullable=False),
    Column("served", Float, nullable=True),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("organisation_id", Integer, ForeignKey("organisations.id"), nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("exchanged", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    Column("used", Float, nullable=False),  # 0: never
    Column("expires", Float, nullable=True),
    Column("handle", String(20), nullable=False),
    Column("label", Text, nullable=False),
    Column("role", String(12), nullable=False),
    Column("revoked", Float, nullable=True),
    Index("ix_api_keys_handle", "handle", unique=True),
    Index("ix_api_keys_organisation", "organisation_id", "expires"),
)

registrations = Table(
    "registrations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organisation_id", Integer, ForeignKey("organisations.id"), nullable=False),
    Column("task", String(40), nullable=False),
    Column("analysis", String(40), nullable=False),
    Column("dialect", String(8), nullable=False),
    Column("created", Float, nullable=False),
    Column("locked", Float, nullable=True),
)

uploads = Table(
    "uploads",
    metadata,
    Column("registration_id", String(36), ForeignKey("registrations.id"), primary_key=True),
    Column("slot", String(40), primary_key=True),
    Column("blob", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created", Float, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organisation_id", Integer, ForeignKey("organisations.id"), nullable=False),
    Column("registration_id", String(36), ForeignKey("registrations.id"), nullable=False),
    Column("task", String(40), nullable=False),
    Column("analysis", String(40), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("config", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("state", String(12), nullable=False),
    Column("stages", JSON, nullable=False),
    Column("stage_seconds", JSON, nullable=False),
    Column("message", Text, nullable=False),
    Column("progress", Float, nullable=False),
    Column("score", Float, nullable=True),
    Column("original_accuracy", Float, nullable=True),
    Column("created", Float, nullable=False),
    Column("started", Float, nullable=True),
    Column("finished", Float, nullable=True),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("ran_seconds", Float, nullable=False, server_default=text("0")),
    Column("not_before", Float, nullable=True),
    Column("announced", Float, nullable=True),
    Column("purged", Float, nullable=True),
    Index("ix_jobs_queue", "state", "created"),
    Index("ix_jobs_organisation", "state", "organisation_id", "created"),
    Index("ix_jobs_registration", "registration_id"),
    Index("ix_jobs_announced", "announced", "state"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("organisation_id", Integer, ForeignKey("organisations.id"), primary_key=True),
    Column("registration_id", String(36), ForeignKey("registrations.id"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("job_id", String(40), ForeignKey("jobs.id"), nullable=False),
    Column("created", Float, nullable=False),
    Index("ix_idempotency_keys_job", "job_id"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id"), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("blob", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("created", Float, nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("time", Float, nullable=False),
    Column("event", String(40), nullable=False),
    Column("organisation_id", Integer, nullable=True),
    Column("actor", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
"""Append-only: triggers of the migration refuse changes, removals and gaps."""
