"""Who is at work: carried along a request, a command or a job process for log and audit."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["RequestContext", "acting", "current"]


@dataclass
class RequestContext:
    """Changes as a request is understood; threads that serve the request share the object."""

    request_id: str = ""
    address: str = ""
    """Where the request came from; behind a trusted proxy the address that it names."""
    actor: str = "server"
    """Id of the key, ``link``, ``anonymous``, ``cli:USER``, ``worker`` or ``server``."""
    route: str = ""
    """Template of the path."""


_SERVER = RequestContext()
_CURRENT: ContextVar[RequestContext] = ContextVar("modelward_context", default=_SERVER)


def current() -> RequestContext:
    """The context of this task or thread; the server's own where there is none."""
    return _CURRENT.get()


@contextmanager
def acting(context: RequestContext) -> Iterator[RequestContext]:
    """Make ``context`` the current one."""
    token = _CURRENT.set(context)
    try:
        yield context
    finally:
        _CURRENT.reset(token)
