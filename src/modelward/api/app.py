"""The app factory; collaborators come in as arguments."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool

from modelward._version import __version__
from modelward.api.edge import Edge
from modelward.api.errors import install_error_handlers
from modelward.api.guard import guard
from modelward.api.limits import Limits
from modelward.api.metrics import Metrics
from modelward.api.policy import check_policies
from modelward.api.routes_jobs import router as jobs_router
from modelward.api.routes_keys import router as keys_router
from modelward.api.routes_manage import router as manage_router
from modelward.api.routes_models import router as models_router
from modelward.api.routes_service import router as service_router
from modelward.domain import ModelwardError
from modelward.jobs import BASE_PATH, WORKER_COMMAND, AssessmentService
from modelward.settings import Settings
from modelward.web import add_pages

__all__ = ["create_app"]


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> FastAPI:
    """Make the service as an ASGI app.

    Args:
        settings: Effective settings.
        clock: Seconds since 1970; what tokens, keys and jobs are dated by.
        worker_command: Starts a job process; ``--data``, ``--nice`` and ``--job`` are appended.

    Raises:
        RuntimeError: A route without a policy in ``api/policy.py``.
    """
    service = AssessmentService(settings, clock=clock, worker_command=worker_command)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await run_in_threadpool(service.start)
        except ModelwardError as error:
            app.state.start_refused = error
            raise
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)

    app: FastAPI = FastAPIOffline(
        title="Modelward",
        version=__version__,
        description="Security assessment of machine-learning models (AIShield v1.5 dialect).",
        lifespan=lifespan,
        # Redirects would be built from the Host header, which anybody can send.
        redirect_slashes=False,
        # Before every route, whoever adds it: identify the caller by the route's policy.
        dependencies=[Depends(guard)],
    )
    app.state.service = service
    app.state.start_refused = None
    app.state.limits = Limits(settings)
    app.state.metrics = Metrics(service.job_counts)
    install_error_handlers(app)
    for router in (models_router, jobs_router, manage_router, keys_router):
        app.include_router(router, prefix=BASE_PATH)
    app.include_router(service_router)
    add_pages(app, service)
    check_policies(app)
    app.add_middleware(Edge, settings=settings, limits=app.state.limits, metrics=app.state.metrics)
    return app
