"""The service's own log: every line with the id of its request, secrets masked."""

import copy
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter, DefaultFormatter

from modelward.jobs import current, mask

__all__ = ["JsonFormatter", "log_config", "set_up_logs"]

_ACCESS = "uvicorn.access"
_ACCESS_PARTS = 5


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at that moment.

    A start inside another program (a test runner that captures) may outlive the stream that was
    there when the log was set up.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard error as it is now."""
        return sys.stderr


def _suffix() -> str:
    request_id = current().request_id
    return f" [{request_id}]" if request_id else ""


class TextFormatter(DefaultFormatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with its traceback, without secrets."""
        line, *rest = super().format(record).split("\n", 1)
        return mask("\n".join([line + _suffix(), *rest]))


class TextAccessFormatter(AccessFormatter):
    """Lines about requests, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without secrets."""
        return mask(super().format(record) + _suffix())


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and what is known about the request.

    The address is the one that the request is counted for; the path is without its query.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The object in plain ASCII without secrets."""
        moment = datetime.fromtimestamp(record.created, tz=UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        context = current()
        if context.request_id:
            line |= {
                "request_id": context.request_id,
                "address": context.address,
                "actor": context.actor,
                "route": context.route,
            }
        if record.name == _ACCESS and isinstance(record.args, tuple):
            if len(record.args) == _ACCESS_PARTS:
                _, method, path, _, status = record.args
                line |= {"method": method, "path": mask(str(path).split("?")[0]), "status": status}
        if record.exc_info:
            line["exception"] = mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=True, default=str)


def log_config(level: str, form: str) -> dict[str, Any]:
    """What ``logging.config.dictConfig`` takes.

    Args:
        level: Of the service's own messages.
        form: ``text`` or ``json``.
    """
    config = copy.deepcopy(LOGGING_CONFIG)
    formatters = config["formatters"]
    if form == "json":
        config["formatters"] = {"default": {"()": JsonFormatter}, "access": {"()": JsonFormatter}}
    else:
        formatters["default"]["()"] = TextFormatter
        formatters["access"]["()"] = TextAccessFormatter
    for name, handler in config["handlers"].items():
        # Standard output is for the line with the address alone.
        config["handlers"][name] = {"()": StderrHandler, "formatter": handler["formatter"]}
    config["loggers"]["modelward"] = {"handlers": ["default"], "level": level.upper()}
    return config


def set_up_logs(level: str, form: str) -> None:
    """Give the loggers of the service their form; those of others keep their handlers.

    ``logging.config.dictConfig`` would close every handler of the process. In one that runs the
    service beside other things, a handler may close the stream that it wrote to.
    """
    config = log_config(level, form)
    handlers = {}
    for name, given in config["handlers"].items():
        made = dict(config["formatters"][given["formatter"]])
        handlers[name] = StderrHandler()
        handlers[name].setFormatter(made.pop("()")(**made))
    for name, given in config["loggers"].items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handlers[one] for one in given.get("handlers", ())]
        logger.setLevel(given["level"])
        logger.propagate = given.get("propagate", True)
