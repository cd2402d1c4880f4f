"""The real server with the workers of the chaos run: ``chaos_server.py DATA PORT``."""

import sys
from pathlib import Path

from modelward.api import run_server
from modelward.settings import load_settings

if __name__ == "__main__":
    worker = Path(__file__).with_name("chaos_worker.py")
    sys.exit(
        run_server(
            load_settings(
                data=Path(sys.argv[1]),
                port=int(sys.argv[2]),
                max_jobs=3,
                checkpoint_seconds=0,
                queue_max_jobs_per_organisation=1000,
                requests_per_second=10_000,
                request_burst=10_000,
                address_requests_per_second=10_000,
                address_burst=10_000,
            ),
            ready=lambda url: print(f"Modelward is serving at {url}", flush=True),
            worker_command=[sys.executable, str(worker)],
        )
    )
