"""The server of ``load.py``: ``_load_server.py DATA``; its jobs run in ``_load_worker.py``."""

import sys
from pathlib import Path

from modelward.api import run_server
from modelward.settings import load_settings

if __name__ == "__main__":
    worker = Path(__file__).with_name("_load_worker.py")
    sys.exit(
        run_server(
            load_settings(data=Path(sys.argv[1]), port=0),
            ready=lambda url: print(f"Modelward is serving at {url}", flush=True),
            worker_command=[sys.executable, "-P", str(worker)],
        )
    )
