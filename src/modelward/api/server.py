"""Runs the app under uvicorn."""

import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence

import uvicorn

from modelward.api.app import create_app
from modelward.api.connections import guarded_protocol
from modelward.api.descriptors import raise_open_files
from modelward.api.logs import set_up_logs
from modelward.domain import InvalidInputError
from modelward.jobs import WORKER_COMMAND
from modelward.settings import Settings

__all__ = ["is_loopback", "run_server"]

_LOG = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Says when it is ready to answer."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and not self.should_exit:
            self._ready()


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named: without it, each answer
    # whose head and body are two segments waits 40 ms for the client's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise InvalidInputError(
            f"--host/--port: expected an address to listen on; {settings.host}:{settings.port} "
            f"is not free or not ours ({error.strerror}). --port 0 picks a free port"
        ) from error
    return listener


def run_server(
    settings: Settings,
    *,
    ready: Callable[[str], None],
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> int:
    """Serve until a signal ends it.

    Args:
        settings: Effective settings; port 0 picks a free port.
        ready: Called with the base URL once requests are answered.
        worker_command: Starts a job process.

    Returns:
        0 after an orderly end, 1 where the start failed.

    Raises:
        InvalidInputError: The address is taken, or a setting is malformed.
        UnavailableError: The data folder cannot be used.
        ConflictError: Another server uses it.
    """
    listener = _listen(settings)
    try:
        return _run(listener, settings, ready, worker_command)
    finally:
        listener.close()


def _run(
    listener: socket.socket,
    settings: Settings,
    ready: Callable[[str], None],
    worker_command: Sequence[str],
) -> int:
    settings = settings.model_copy(update={"port": int(listener.getsockname()[1])})
    password = settings.ssl_keyfile_password
    # Before the app is made: that may already have something to say.
    set_up_logs(settings.log_level, settings.log_format)
    raise_open_files(settings.max_connections)
    app = create_app(settings, worker_command=worker_command)

    def refused(limit: str) -> None:
        app.state.metrics.rate_limited.labels(limit=limit, action="closed").inc()

    config = uvicorn.Config(
        app,
        http=guarded_protocol(settings, refused),
        h11_max_incomplete_event_size=settings.header_max_bytes,
        ws="none",
        log_config=None,
        log_level=settings.log_level,
        ssl_certfile=str(settings.ssl_certfile) if settings.ssl_certfile else None,
        ssl_keyfile=str(settings.ssl_keyfile) if settings.ssl_keyfile else None,
        ssl_keyfile_password=password.get_secret_value() if password else None,
        # Forwarded headers could change the client address in the log; nothing here needs them.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    address = settings.model_copy(update={"public_url": None}).base_url

    def started() -> None:
        _LOG.info("Listening on %s", address)
        ready(settings.base_url)

    server = _Server(config, ready=started)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        # uvicorn's way to say that it did not start; it has told the reason
        if app.state.start_refused is None:
            return 1
    if app.state.start_refused is not None:
        raise app.state.start_refused
    return 0 if server.started else 1
