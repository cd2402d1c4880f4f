"""How the quick reference run is started."""

import os
import sys

COMMAND = [sys.executable, "-c", "from modelward.cli import app; app()", "demo", "mnist", "--quick"]


def environment() -> dict[str, str]:
    """No variable of ours and no Keras backend: the demo has to set what it needs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODELWARD_", "KERAS_"))}
    return kept | {"COLUMNS": "200"}
