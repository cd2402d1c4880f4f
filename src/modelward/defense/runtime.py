"""Tell model extraction queries from benign inputs.

One file without siblings: it needs the standard library and numpy, and is given the model. It
reports attacks to Microsoft Sentinel or Splunk where credentials are given.

    import keras                      # or: from tensorflow import keras
    from predict import AISDefenseModel

    defense = AISDefenseModel(keras.models.load_model("defense_model.h5"))
    label, probability = defense.predict(images)

The decision threshold lies in the model: its larger output is the decision.
"""

import inspect
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelward.siem.credentials import default_spool, make_sinks
from modelward.siem.delivery import Delivery
from modelward.siem.events import (
    Event,
    attack_rows,
    own_address,
    raw_message,
    service_name_of,
    utc_timestamp,
)

__all__ = ["AISDefenseModel"]

RUNTIME_LOG = logging.getLogger("modelward.siem")

LABELS = ("not-attack", "attack")
"""Meaning of the columns of the model's output."""
ROWS_AT_A_TIME = 1024
"""Images converted to float at a time; bounds the memory."""
TOLERANCE = 0.01
"""How far scaled pixels may lie beyond 0 and 1 (resampling overshoots) before it is an error."""
ARTIFACT: dict[str, str] = {}
"""Where this detector comes from: model_id, job_id, task_type, analysis_type, version."""


class AISDefenseModel:
    """A detector of model extraction queries that tells a SIEM what it sees.

    Credentials not given are read from the environment: ``MODELWARD_AZURE_LOG_CUSTOMER_ID`` and
    ``MODELWARD_AZURE_LOG_SHARED_KEY``, ``MODELWARD_SPLUNK_URL`` and
    ``MODELWARD_SPLUNK_AUTHORIZATION``. Without any nothing is sent and nothing is stored.

    Args:
        defense_model: The loaded ``defense_model.h5``: a Keras model, or anything with ``predict``
            or callable, (n, height, width, channels) float32 in [0, 1] -> (n, 2) probabilities.
        azure_log_customer_id: Workspace id of Microsoft Sentinel.
        azure_log_shared_key: Its primary or secondary key.
        splunk_url: Address of a Splunk HTTP Event Collector.
        authorization: Its token, with or without the word Splunk before it.
        asset_id: What is protected; the model id by default.
        source_name: Where inputs come from, for calls that do not say; this host's address by
            default.
        service_name: Name of this engine in the events.
        spool_path: File in which events wait; by default one per asset in the user's state folder.
        azure_log_endpoint: Address instead of the workspace's own.
        ca_bundle: PEM file of authorities to trust instead of the system's.
        allow_http: Whether plain http may leave this machine.
        min_probability: Attacks below this probability are not reported.
        aggregate_above: A call that flags more rows than this is reported as one event.
        sink: One more receiver, such as ``modelward.siem.SentinelLogs``: ``name`` and
            ``send(events)``.

    Raises:
        TypeError: No model, or something else than a number; the message names it.
        ValueError: Half a pair of credentials, or a malformed value; the message names it.
    """

    def __init__(  # noqa: PLR0917 - existing code passes credentials by position
        self,
        defense_model: Any,
        azure_log_customer_id: str | None = None,
        azure_log_shared_key: str | None = None,
        splunk_url: str | None = None,
        authorization: str | None = None,
        asset_id: str | None = None,
        source_name: str | None = None,
        service_name: str | None = None,
        spool_path: str | Path | None = None,
        azure_log_endpoint: str | None = None,
        ca_bundle: str | None = None,
        allow_http: bool = False,
        min_probability: float = 0.5,
        aggregate_above: int = 100,
        sink: Any = None,
    ) -> None:
        if not callable(getattr(defense_model, "predict", None)) and not callable(defense_model):
            raise TypeError(
                "defense_model: expected the loaded defense_model.h5 (a model with predict, or "
                f"callable), got {type(defense_model).__name__}; load it with "
                "keras.models.load_model first"
            )
        if not 0 <= _number("min_probability", min_probability) <= 1:
            raise ValueError(f"min_probability: expected 0 to 1, got {min_probability}")
        if not 1 <= _number("aggregate_above", aggregate_above) < float("inf"):
            raise ValueError(f"aggregate_above: expected 1 or more, got {aggregate_above}")
        if sink is not None and not (hasattr(sink, "name") and hasattr(sink, "send")):
            raise TypeError(
                "sink: expected an object with name and send(events), such as "
                f"modelward.siem.SentinelLogs; got {type(sink).__name__}"
            )
        self.defense_model = defense_model
        self.min_probability = float(min_probability)
        self.aggregate_above = int(aggregate_above)
        self._delivery: Delivery | None = None
        self._base: dict[str, Any] = {}
        sinks = make_sinks(
            {
                "azure_log_customer_id": azure_log_customer_id,
                "azure_log_shared_key": azure_log_shared_key,
                "splunk_url": splunk_url,
                "authorization": authorization,
            },
            azure_log_endpoint=azure_log_endpoint,
            ca_bundle=ca_bundle,
            allow_http=allow_http,
        )
        sinks += [] if sink is None else [sink]
        if not sinks:
            return
        task = ARTIFACT.get("task_type", "image_classification")
        analysis = ARTIFACT.get("analysis_type", "extraction")
        asset = asset_id or ARTIFACT.get("model_id") or "unknown"
        self._base = Event(
            raw_message=raw_message(task, analysis),
            service_name=service_name or service_name_of(task, analysis),
            asset_id=asset,
            source_name=source_name or own_address(),
            probability=0.0,
            computer=socket.gethostname(),
            model_id=ARTIFACT.get("model_id", ""),
            job_id=ARTIFACT.get("job_id", ""),
            defense_version=ARTIFACT.get("version", ""),
        ).fields()
        self._delivery = Delivery(sinks, spool_path or default_spool(asset))

    def __enter__(self) -> "AISDefenseModel":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def predict(
        self, x: Any, source: str | Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Judge images one by one, and report the attacks among them.

        Args:
            x: (n, height, width, channels), an array or nested lists. Each row may be normalised
                (0 to 1) or raw (0 to 255): integers, and rows with a value above 1, are raw.
            source: Address of the sender, one for all rows or one per row; for the events.

        Returns:
            Two arrays of length n: ``'attack'`` or ``'not-attack'``, and the probability of that
            label, at least 0.5.

        Raises:
            ValueError: The shape or the values are not those of images for this model.
        """
        images = self._checked(x)
        columns = np.zeros((len(images), len(LABELS)), dtype=np.float32)
        for low in range(0, len(images), ROWS_AT_A_TIME):
            part = _normalised(images[low : low + ROWS_AT_A_TIME], low)
            answer = self._ask(part)
            if answer.shape != (len(part), len(LABELS)):
                raise ValueError(
                    f"defense_model: expected answers of shape {(len(part), len(LABELS))}, got "
                    f"{answer.shape}; is this the defense_model.h5 that came with this file?"
                )
            columns[low : low + len(part)] = answer
        decision = columns.argmax(axis=1)
        if self._delivery is not None:
            flagged = np.flatnonzero((decision == 1) & (columns[:, 1] >= self.min_probability))
            if len(flagged):
                self._report(flagged, columns[flagged, 1], source, len(images))
        return np.array(LABELS)[decision], columns[np.arange(len(columns)), decision]

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until the SIEM has every event; whether it has within ``timeout`` seconds."""
        return True if self._delivery is None else self._delivery.flush(timeout)

    def close(self) -> None:
        """Send what can be sent in two seconds; the rest waits in the spool for the next start."""
        if self._delivery is not None:
            self._delivery.close()

    def stats(self) -> dict[str, Any]:
        """Counts of events submitted, delivered, pending and dropped; empty without a SIEM."""
        return {} if self._delivery is None else self._delivery.stats()

    def _report(self, rows: np.ndarray, probability: np.ndarray, source: Any, total: int) -> None:
        """One event per flagged row, or one for all of them; never raises."""
        delivery = self._delivery
        if delivery is None:
            return
        default = self._base["source_name"]
        try:
            sources = _sources(source, default, total)
            base = {**self._base, "timestamp": utc_timestamp()}
            if len(rows) <= self.aggregate_above:
                found = attack_rows(probability.tolist(), [sources[row] for row in rows])
                delivery.submit_rows(base, found)
                return
            highest = float(probability.max())
            names = {sources[row] for row in rows}
            whole = attack_rows([highest], [names.pop() if len(names) == 1 else default])
            text = f"{base['RawMessage']} ({len(rows)} inputs in one call)"
            delivery.submit_rows({**base, "RawMessage": text, "rows": len(rows)}, whole)
        except Exception:
            # A prediction never fails because of its report.
            RUNTIME_LOG.exception("SIEM: an event could not be made")

    def _checked(self, x: Any) -> np.ndarray:
        try:
            images = np.asarray(x)
        except ValueError as error:
            raise ValueError(
                f"expected images of one size, (n, height, width, channels); got {error}"
            ) from None
        expected = _input_shape(self.defense_model)
        wanted = "(n, height, width, channels)"
        if expected is not None:
            wanted = f"(n, {', '.join(str(size) for size in expected)})"
        if images.ndim == 3:
            raise ValueError(
                f"expected images of shape {wanted}, got {images.shape}; "
                "for a single image pass x[None], for images without channel axis x[..., None]"
            )
        if images.ndim != 4 or (expected is not None and images.shape[1:] != expected):
            raise ValueError(f"expected images of shape {wanted}, got {images.shape}")
        if images.dtype.kind not in "buif":
            raise ValueError(f"expected numbers as pixels, got dtype {images.dtype}")
        return images

    def _ask(self, images: np.ndarray) -> np.ndarray:
        model = self.defense_model
        predict = getattr(model, "predict", None)
        if callable(predict):
            # Keras draws a progress bar unless told not to.
            quiet = {"verbose": 0} if _accepts(predict, "verbose") else {}
            answer = predict(images, **quiet)
        else:
            answer = model(images)
        if hasattr(answer, "detach"):
            answer = answer.detach().cpu()
        return np.asarray(answer, dtype=np.float32)


def _number(name: str, value: Any) -> float:
    """The value as a float; texts and arrays are refused, numpy's own numbers are not."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"{name}: expected a number, got {str(value)[:40]!r} ({type(value).__name__})")


def _normalised(images: np.ndarray, first: int) -> np.ndarray:
    """Scale rows to [0, 1] float32; each row by its own range. ``first`` is for messages."""
    scaled = images.astype(np.float32)
    highest = scaled.max(axis=(1, 2, 3), initial=0)
    raw = np.full(len(images), images.dtype.kind in "ui") | (highest > 1)
    scaled[raw] /= np.float32(255)
    low = scaled.min(axis=(1, 2, 3), initial=0)
    high = scaled.max(axis=(1, 2, 3), initial=0)
    # Written so that NaN counts as wrong.
    wrong = ~((low >= -TOLERANCE) & (high <= 1 + TOLERANCE))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        values = images[row]
        raise ValueError(
            f"image {first + row}: expected pixels in 0 to 1 or 0 to 255, got "
            f"{values.min()} to {values.max()}; undo mean subtraction or other scaling"
        )
    return np.clip(scaled, 0, 1)


def _input_shape(model: Any) -> tuple[int, ...] | None:
    """(height, width, channels) of a Keras model, None where it is not known."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:]:
        return None
    return tuple(int(size) for size in shape[1:])


def _accepts(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _sources(source: Any, default: str, count: int) -> Sequence[str]:
    """The sender of each row."""
    if source is None or isinstance(source, str):
        return [source or default] * count
    try:
        given = [str(item) for item in source]
    except TypeError:
        return [str(source)] * count
    if len(given) != count:
        RUNTIME_LOG.warning("source: expected one or %d addresses, got %d", count, len(given))
        return [default] * count
    return given
