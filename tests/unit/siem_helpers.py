"""Events, sinks and deliveries for the SIEM tests."""

import random

from modelward.siem import DataCollector, Delivery, Event, SplunkCollector


class Clock:
    """Time that moves when told."""

    def __init__(self, now=1_790_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


def event(number=0, **changes):
    fields = {
        "raw_message": "Image Classification AI Model Extraction Attack Identified",
        "service_name": "image_classification_extraction_defense_engine",
        "asset_id": "model-1",
        "source_name": "198.51.100.7",
        "probability": 0.91,
        "suspicious_level": "high suspicious attack",
        "computer": "host-1",
        "event_id": f"evt-{number}",
        "model_id": "model-1",
        "job_id": "job-1",
        "defense_version": "0.1.0",
    }
    return Event(**{**fields, **changes})


def sentinel(sink, **options):
    options.setdefault("endpoint", sink.url)
    return DataCollector(sink.workspace_id, sink.shared_key, **options)


def splunk(sink, **options):
    return SplunkCollector(sink.url, sink.token, **options)


def delivery(folder, *sinks, clock=None, **options):
    """Without threads: ``pump`` and ``flush`` send."""
    options.setdefault("start", False)
    options.setdefault("rng", random.Random(7))
    if clock is not None:
        options["clock"] = clock
    return Delivery(sinks, folder / "spool.db", **options)


class Scripted:
    """A sink that answers from a list, and then accepts."""

    def __init__(self, *outcomes, name="scripted"):
        self.name = name
        self.outcomes = list(outcomes)
        self.sent = []

    def send(self, events):
        self.sent.append([e["event_id"] for e in events])
        answer = self.outcomes.pop(0) if self.outcomes else Accepted()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Accepted:
    status, reason, retry_after, rejected_ids = "accepted", "", None, ()
