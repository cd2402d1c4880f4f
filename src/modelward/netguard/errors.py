"""What can go wrong with a guarded request."""

__all__ = ["OutboundError", "OutboundLimitError", "OutboundRefusedError"]


class OutboundError(Exception):
    """Base: a request of the service was not made, or not finished."""


class OutboundRefusedError(OutboundError):
    """The address is one that the service does not talk to."""


class OutboundLimitError(OutboundError):
    """Too many redirects, too large an answer, or too long a wait."""
