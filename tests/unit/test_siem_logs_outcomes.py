"""What the refusals of the Logs Ingestion API mean for events."""

import types

import pytest

from modelward.siem.sentinel_logs import outcome_of


@pytest.mark.parametrize(
    ("status", "message", "after", "outcome", "wait"),
    [
        (400, "(InvalidPayload) the records are no array", "", "rejected", None),
        (413, "too large", "", "rejected", None),
        (400, "(InvalidStream) The stream Custom-X is not in the rule", "", "retry", 60),
        (404, "(NotFound) Data collection rule dcr-1 not found", "", "retry", 60),
        (403, "(OperationFailed) no role", "", "retry", 60),
        (429, "slow down", "7", "retry", 7),
        (429, "slow down", "²", "retry", None),
        (503, "later", "", "retry", None),
    ],
)
def test_settings_keep_events_and_malformed_ones_are_put_aside(
    status, message, after, outcome, wait
):
    response = types.SimpleNamespace(headers={"Retry-After": after} if after else {})
    error = types.SimpleNamespace(status_code=status, message=message, response=response)
    got = outcome_of(error)
    assert (got.status, got.retry_after) == (outcome, wait)
    assert str(status) in got.reason
