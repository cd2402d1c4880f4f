"""The judge of order in ``benchmarks/load.py``, against orders worked out by hand."""

import sys
from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["load"])
    from _load_order import unfairness

    return unfairness


def test_round_robin(judge):
    # three organisations with two jobs each, all there at 0, started A B C A B C
    order = [(org, 0.0, float(at)) for at, org in enumerate([1, 2, 3, 1, 2, 3], 1)]
    assert judge(order) == Counter({0: 1, 1: 5})


def test_first_come_first_served(judge):
    # A sent three jobs before B's one: B waits while A is served three times
    order = [(1, 0.0, 1.0), (1, 0.0, 2.0), (1, 0.0, 3.0), (2, 0.5, 4.0)]
    assert judge(order) == Counter({0: 3, 3: 1})


def test_a_second_job_waits_from_the_start_of_the_first(judge):
    # B's second job is the head of its queue from 2 on; only C came between
    order = [(1, 0.0, 1.0), (2, 0.0, 2.0), (3, 2.5, 3.0), (2, 0.0, 4.0)]
    assert judge(order) == Counter({0: 2, 1: 2})


def test_the_order_of_the_list_does_not_matter(judge):
    order = [(2, 0.5, 4.0), (1, 0.0, 3.0), (1, 0.0, 1.0), (1, 0.0, 2.0)]
    assert judge(order) == Counter({0: 3, 3: 1})
