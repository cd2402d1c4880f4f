"""Jobs: use cases, durable store, pipelines and the processes that run them.

Names are looked up when they are first used (PEP 562): a job process imports a worker and its
pipeline, and not the service with its HTTP client, settings and SIEM as well. Starting it takes
two thirds of the time, which counts where jobs are many and short.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelward.jobs.alerts import KEY_REFUSED, UPLOAD_REJECTED
    from modelward.jobs.audit import AuditEntry, Verdict
    from modelward.jobs.backup import BackupSummary, make_backup
    from modelward.jobs.checkpoints import Checkpoints, Snapshot
    from modelward.jobs.context import RequestContext, acting, current
    from modelward.jobs.deletion import Removed
    from modelward.jobs.dispatcher import WORKER_COMMAND
    from modelward.jobs.downloads import Download, ready_downloads
    from modelward.jobs.gates import DECLINED
    from modelward.jobs.keys import KeyInfo, Keys, NewKey
    from modelward.jobs.links import BASE_PATH
    from modelward.jobs.operator import (
        AuditUnreadableError,
        Operator,
        create_organisation,
    )
    from modelward.jobs.pipeline import (
        DefenseDeclined,
        Interrupted,
        Pipeline,
        StageContext,
        load_pipeline,
        register,
        registered_pairs,
    )
    from modelward.jobs.restore import restore_backup
    from modelward.jobs.roles import Permission, Role, parse_role
    from modelward.jobs.runner import STAGE_LABELS
    from modelward.jobs.secrets import mask
    from modelward.jobs.service import AssessmentService
    from modelward.jobs.signing import Rotation
    from modelward.jobs.store import Job, JobState
    from modelward.jobs.tenants import Caller, Credentials, Organisation
    from modelward.jobs.upkeep import cancel_job, collect
    from modelward.jobs.uploads import Ticket
    from modelward.jobs.visits import JobView

__all__ = [
    "BASE_PATH",
    "DECLINED",
    "KEY_REFUSED",
    "STAGE_LABELS",
    "UPLOAD_REJECTED",
    "WORKER_COMMAND",
    "AssessmentService",
    "AuditEntry",
    "AuditUnreadableError",
    "BackupSummary",
    "Caller",
    "Checkpoints",
    "Credentials",
    "DefenseDeclined",
    "Download",
    "Interrupted",
    "Job",
    "JobState",
    "JobView",
    "KeyInfo",
    "Keys",
    "NewKey",
    "Operator",
    "Organisation",
    "Permission",
    "Pipeline",
    "Removed",
    "RequestContext",
    "Role",
    "Rotation",
    "Snapshot",
    "StageContext",
    "Ticket",
    "Verdict",
    "acting",
    "cancel_job",
    "collect",
    "create_organisation",
    "current",
    "load_pipeline",
    "make_backup",
    "mask",
    "parse_role",
    "ready_downloads",
    "register",
    "registered_pairs",
    "restore_backup",
]

_HOMES = {
    "KEY_REFUSED": "alerts",
    "UPLOAD_REJECTED": "alerts",
    "AuditEntry": "audit",
    "Verdict": "audit",
    "BackupSummary": "backup",
    "make_backup": "backup",
    "Checkpoints": "checkpoints",
    "Snapshot": "checkpoints",
    "RequestContext": "context",
    "acting": "context",
    "current": "context",
    "Removed": "deletion",
    "WORKER_COMMAND": "dispatcher",
    "Download": "downloads",
    "ready_downloads": "downloads",
    "DECLINED": "gates",
    "KeyInfo": "keys",
    "Keys": "keys",
    "NewKey": "keys",
    "BASE_PATH": "links",
    "AuditUnreadableError": "operator",
    "Operator": "operator",
    "create_organisation": "operator",
    "DefenseDeclined": "pipeline",
    "Interrupted": "pipeline",
    "Pipeline": "pipeline",
    "StageContext": "pipeline",
    "load_pipeline": "pipeline",
    "register": "pipeline",
    "registered_pairs": "pipeline",
    "restore_backup": "restore",
    "Permission": "roles",
    "Role": "roles",
    "parse_role": "roles",
    "STAGE_LABELS": "runner",
    "mask": "secrets",
    "AssessmentService": "service",
    "Rotation": "signing",
    "Job": "store",
    "JobState": "store",
    "Caller": "tenants",
    "Credentials": "tenants",
    "Organisation": "tenants",
    "cancel_job": "upkeep",
    "collect": "upkeep",
    "Ticket": "uploads",
    "JobView": "visits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
