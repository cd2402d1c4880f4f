"""The app factory; collaborators come in as arguments."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from modelward._version import __version__
from modelward.api.edge import Edge
from modelward.api.errors import install_error_handlers, json_response
from modelward.api.limits import RateLimiter
from modelward.api.routes_jobs import router as jobs_router
from modelward.api.routes_manage import router as manage_router
from modelward.api.routes_models import router as models_router
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
    """
    service = AssessmentService(settings, clock=clock, worker_command=worker_command)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
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
    )
    app.state.service = service
    rate, burst = settings.requests_per_second, settings.request_burst
    app.state.limiter = RateLimiter(rate, burst)
    app.state.status_limiter = RateLimiter(rate, burst)
    app.state.key_limiter = RateLimiter(settings.key_exchange_per_second, burst)
    install_error_handlers(app)
    app.include_router(models_router, prefix=BASE_PATH)
    app.include_router(jobs_router, prefix=BASE_PATH)
    app.include_router(manage_router, prefix=BASE_PATH)
    add_pages(app, service)
    app.add_middleware(Edge, base_url=settings.base_url)

    @app.get("/health", tags=["Service"])
    async def health() -> Response:
        """Whether the service answers."""
        return json_response({"status": "ok", "version": __version__})

    return app
