"""Requests that the service itself makes to addresses which others chose.

An address given by a client (a model behind an API, a repository) must not lead into the
operator's network: not to private, link-local, loopback or metadata addresses, however they are
spelt, whatever a name resolves to, and wherever a redirect points. Standard library and httpx.
"""

from modelward.netguard.addresses import OutboundPolicy, forbidden_reason
from modelward.netguard.client import GuardedClient
from modelward.netguard.errors import OutboundError, OutboundLimitError, OutboundRefusedError

__all__ = [
    "GuardedClient",
    "OutboundError",
    "OutboundLimitError",
    "OutboundPolicy",
    "OutboundRefusedError",
    "forbidden_reason",
]
