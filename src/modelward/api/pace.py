"""Slow bodies: a request that trickles in is ended, however long it may be."""

import asyncio
import time

from starlette.types import Message, Receive

from modelward.domain import RequestTimeoutError

__all__ = ["Pace"]


class Pace:
    """Wraps ``receive``: the sender has an allowance of time, which its bytes fill up again.

    Waiting for the sender uses the allowance, each byte earns ``1 / least`` seconds, and it never
    holds more than the window: a sender that was quick before cannot stand still longer for it.
    Time that the service itself takes does not count.
    """

    def __init__(self, receive: Receive, *, least: float, window: float) -> None:
        """Watch a request.

        Args:
            receive: Of the ASGI server.
            least: Bytes per second that are expected on average.
            window: Seconds that the sender may stand still.
        """
        self._receive = receive
        self._least = least
        self._window = window
        self._left = window
        self._complete = False

    async def __call__(self) -> Message:
        """The next message.

        Raises:
            RequestTimeoutError: The allowance is used up.
        """
        if self._complete:
            # From here on receive waits for the end of the connection.
            return await self._receive()
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self._left)):
                message = await self._receive()
        except TimeoutError:
            self._left = 0.0
            raise RequestTimeoutError(
                f"body: expected at least {self._least:g} bytes per second on average over "
                f"{self._window:g} s; less came. Send it again over a better connection"
            ) from None
        self._complete = not message.get("more_body", False)
        earned = len(message.get("body", b"")) / self._least
        self._left = min(self._window, self._left - (time.monotonic() - began) + earned)
        return message
