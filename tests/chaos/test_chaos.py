"""Ten kills; ``make chaos`` makes a hundred."""

from pathlib import Path

import pytest
from chaos_driver import run


@pytest.mark.slow
def test_every_accepted_job_survives_ten_kills(tmp_path: Path) -> None:
    assert run(kills=10, seed=7, real=0, data=tmp_path / "data") == []
