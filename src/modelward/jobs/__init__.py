"""Jobs: use cases, durable store, pipelines and the processes that run them."""

from modelward.jobs.alerts import KEY_REFUSED, UPLOAD_REJECTED
from modelward.jobs.dispatcher import WORKER_COMMAND
from modelward.jobs.downloads import Download, ready_downloads
from modelward.jobs.gates import DECLINED
from modelward.jobs.links import BASE_PATH
from modelward.jobs.pipeline import (
    DefenseDeclined,
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
from modelward.jobs.uploads import Ticket

__all__ = [
    "BASE_PATH",
    "DECLINED",
    "KEY_REFUSED",
    "STAGE_LABELS",
    "UPLOAD_REJECTED",
    "WORKER_COMMAND",
    "AssessmentService",
    "Caller",
    "Credentials",
    "DefenseDeclined",
    "Download",
    "Job",
    "JobState",
    "JobView",
    "Pipeline",
    "StageContext",
    "Ticket",
    "create_organisation",
    "load_pipeline",
    "mask",
    "ready_downloads",
    "register",
    "registered_pairs",
]
