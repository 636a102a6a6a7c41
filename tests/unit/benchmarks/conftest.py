from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.reference.workloads import WORKLOADS


@pytest.fixture
def small_workloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make workloads of a second of W1, W2 and W4; the data is drawn into a folder of its own."""
    for name, users, cohort in (("w1", 12, 3), ("w2", 40, 6), ("w4", 12, 3)):
        monkeypatch.setitem(WORKLOADS, name, replace(WORKLOADS[name], users=users, cohort=cohort))
    monkeypatch.setenv("TACIT_BENCH_DATA", str(tmp_path))
