"""Tells a SIEM about attacks: Microsoft Sentinel and Splunk, at least once, without waiting.

Standard library only; ``defense/assemble.py`` puts these files into the artifact's ``predict.py``.
"""

from modelward.siem.credentials import CREDENTIALS, default_spool, make_sinks
from modelward.siem.delivery import Delivery, Sink
from modelward.siem.events import (
    Event,
    attack_rows,
    new_event_id,
    own_address,
    raw_message,
    service_name_of,
    suspicious_level,
    utc_timestamp,
)
from modelward.siem.sentinel import DataCollector
from modelward.siem.sentinel_logs import SentinelLogs
from modelward.siem.splunk import SplunkCollector
from modelward.siem.spool import Spool, SpoolBusy
from modelward.siem.transport import Outcome

__all__ = [
    "CREDENTIALS",
    "DataCollector",
    "Delivery",
    "Event",
    "Outcome",
    "SentinelLogs",
    "Sink",
    "SplunkCollector",
    "Spool",
    "SpoolBusy",
    "attack_rows",
    "default_spool",
    "make_sinks",
    "new_event_id",
    "own_address",
    "raw_message",
    "service_name_of",
    "suspicious_level",
    "utc_timestamp",
]
