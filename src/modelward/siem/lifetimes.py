"""How long a delivery lives: threads, forks, the end of the interpreter."""

import atexit
import logging
import os
import threading
import time
import weakref
from typing import Any

__all__ = ["UNSETTLED", "look_after", "send_for_ever"]

LIFE_LOG = logging.getLogger("modelward.siem")
LAST_SECONDS = 2.0
"""For all together, at the end of the interpreter."""
DELIVERIES: Any = weakref.WeakSet()
"""All that live, for forks and the end of the interpreter."""
UNSETTLED: set[Any] = set()
"""Those with events to send: kept alive although whoever made them may have forgotten them."""
HELD: list[Any] = []
"""Those whose spool is closed for a fork under way."""
FORKING = threading.Lock()
"""Two threads may fork at the same time."""
HOOKS: list[str] = []
REST_SECONDS = 0.2


def look_after(delivery: Any) -> None:
    """Close a delivery at the end of the interpreter, and see it through forks."""
    DELIVERIES.add(delivery)
    if not HOOKS:
        HOOKS.append("registered")
        atexit.register(close_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=before_fork,
                after_in_parent=lambda: after_fork("after_fork_in_parent"),
                after_in_child=lambda: after_fork("after_fork_in_child"),
            )


def close_all() -> None:
    """Give what is left a last chance, in two seconds for all together."""
    end = time.monotonic() + LAST_SECONDS
    for delivery in list(DELIVERIES):
        delivery.close(max(0.0, end - time.monotonic()))


def before_fork() -> None:
    """Close every spool."""
    FORKING.acquire()
    HELD.extend(list(DELIVERIES))
    for delivery in HELD:
        delivery.before_fork()


def after_fork(method: str) -> None:
    """Go on, in the parent or in the child."""
    for delivery in HELD:
        getattr(delivery, method)()
    HELD.clear()
    if method == "after_fork_in_child":
        UNSETTLED.clear()
    FORKING.release()


def send_for_ever(ref: Any, name: str) -> None:
    """Body of a sink's thread; ends when the delivery is closed or forgotten.

    Args:
        ref: Weak reference to the delivery.
        name: Of the sink.
    """
    stumbles = 0
    while True:
        delivery = ref()
        if delivery is None or delivery._closed:
            return
        wake = delivery._wake[name]
        wake.clear()
        pause, backing_off = 1.0, False
        try:
            pause = delivery.pump(name)
            backing_off = delivery.pause(name) > 0
            stumbles = 0
        except Exception:
            stumbles += 1
            if stumbles == 1:
                LIFE_LOG.exception("SIEM: the sending thread stumbled and goes on")
        del delivery
        if stumbles or (backing_off and pause > 0):
            # New events must not hurry it, but somebody may close or flush.
            time.sleep(min(pause, REST_SECONDS))
        elif pause > 0:
            wake.wait(pause)
