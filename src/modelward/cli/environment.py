"""Variables of the environment that look like settings and are none."""

import difflib
from collections.abc import Iterable

__all__ = ["OTHER_VARIABLES", "unknown_variables"]

_PREFIX = "MODELWARD_"
OTHER_VARIABLES = frozenset(
    _PREFIX + name
    for name in (
        # this command
        "CONFIG",
        # client, assess and demo
        "URL", "ORG_ID", "API_KEY", "DEBUG", "CACHE", "OUTPUT", "QUICK",
        # the defence artifact and the siem commands
        "AZURE_LOG_CUSTOMER_ID", "AZURE_LOG_SHARED_KEY", "SPLUNK_URL", "SPLUNK_AUTHORIZATION",
        "SENTINEL_ENDPOINT", "SENTINEL_DCR", "SENTINEL_STREAM",
        # tests
        "REQUIRE_ENVS", "REQUIRE_SANDBOX", "TF_PYTHON",
    )
)  # fmt: skip
"""Read by other parts of the product; no settings of the service."""


def unknown_variables(names: Iterable[str]) -> list[str]:
    """One sentence for each variable that nothing reads; their values are not looked at.

    Args:
        names: Names of variables; only those that start like a setting's are judged.
    """
    from modelward.domain import SandboxOptions
    from modelward.settings import Settings

    sandbox = (f"sandbox_{name}" for name in SandboxOptions.model_fields)
    known = {_PREFIX + name.upper() for name in (*Settings.model_fields, *sandbox)}
    unknown = sorted(
        name
        for name in names
        if name.upper().startswith(_PREFIX) and name.upper() not in known | OTHER_VARIABLES
    )
    return [f"{name}: no setting has this name, so it is ignored{_hint(name, known)}"
            for name in unknown]  # fmt: skip


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85)
    return (
        f"; did you mean {close[0]}?" if close else ". `modelward serve --show-settings` lists all"
    )
