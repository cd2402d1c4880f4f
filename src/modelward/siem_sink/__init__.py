"""A strict SIEM on this machine: says what Sentinel or Splunk would say, and keeps what it got.

For tests, and for users who want to see events before they own a SIEM. Standard library only; it
shares no code with ``modelward.siem``, so that an error there cannot hide here.
"""

from modelward.siem_sink.answers import Answer
from modelward.siem_sink.faults import Fault
from modelward.siem_sink.record import Received
from modelward.siem_sink.server import LocalSink

__all__ = ["Answer", "Fault", "LocalSink", "Received"]
