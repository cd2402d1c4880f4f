"""As many open files as the connections that the settings allow."""

import logging
import resource

__all__ = ["raise_open_files"]

_LOG = logging.getLogger(__name__)
_BESIDE = 512
"""Open files for everything but connections: database, uploads, pipes of job processes."""


def raise_open_files(connections: int) -> int:
    """Let this process open a file for each connection, and some more.

    Many systems begin with 1,024. Where connections take all of them, nobody else is answered,
    no database is opened and no job is started.

    Args:
        connections: How many may be open.

    Returns:
        How many files may be open now.
    """
    wanted = connections + _BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        _LOG.warning(
            "open files: expected a limit of at least %d for max_connections = %d; got %d. Raise "
            "it (ulimit -Hn, LimitNOFILE of systemd), or lower max_connections",
            wanted, connections, most,
        )  # fmt: skip
    return most
