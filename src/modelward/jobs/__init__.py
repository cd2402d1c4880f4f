"""Jobs: use cases, durable store, pipelines and the processes that run them."""

from modelward.jobs.alerts import KEY_REFUSED, UPLOAD_REJECTED
from modelward.jobs.backup import BackupSummary, make_backup, restore_backup
from modelward.jobs.checkpoints import Checkpoints, Snapshot
from modelward.jobs.deletion import Removed
from modelward.jobs.dispatcher import WORKER_COMMAND
from modelward.jobs.downloads import Download, ready_downloads
from modelward.jobs.gates import DECLINED
from modelward.jobs.links import BASE_PATH
from modelward.jobs.pipeline import (
    DefenseDeclined,
    Interrupted,
    Pipeline,
    StageContext,
    load_pipeline,
    register,
    registered_pairs,
)
from modelward.jobs.runner import STAGE_LABELS
from modelward.jobs.secrets import mask
from modelward.jobs.service import AssessmentService, JobView, create_organisation
from modelward.jobs.store import Job, JobState
from modelward.jobs.tenants import Caller, Credentials
from modelward.jobs.upkeep import cancel_job, collect
from modelward.jobs.uploads import Ticket

__all__ = [
    "BASE_PATH",
    "DECLINED",
    "KEY_REFUSED",
    "STAGE_LABELS",
    "UPLOAD_REJECTED",
    "WORKER_COMMAND",
    "AssessmentService",
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
    "Pipeline",
    "Removed",
    "Snapshot",
    "StageContext",
    "Ticket",
    "cancel_job",
    "collect",
    "create_organisation",
    "load_pipeline",
    "make_backup",
    "mask",
    "ready_downloads",
    "register",
    "registered_pairs",
    "restore_backup",
]
