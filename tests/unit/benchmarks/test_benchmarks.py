import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import overhead, startup
from benchmarks.__main__ import BENCHMARKS
from benchmarks.reference.workloads import WORKLOADS, cohort
from benchmarks.result import FOLDER, Result, read
from benchmarks.tacit_loop import SEED, TacitLoop, WorkloadCohort, make_job, relative_error
from tacit.core.randomness import generator


@pytest.fixture
def small_w2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make W2 a workload of a second; the data is drawn into a folder of its own."""
    from dataclasses import replace

    monkeypatch.setitem(WORKLOADS, "w2", replace(WORKLOADS["w2"], users=40, cohort=6))
    monkeypatch.setenv("TACIT_BENCH_DATA", str(tmp_path))


def test_a_result_reads_as_it_was_written(tmp_path: Path) -> None:
    result = Result.of("example", {"ratio": 1.5, "seconds": [0.25, None]})
    assert read(result.write(tmp_path)) == result
    assert result.date
    assert result.commit
    assert result.cores >= 1


def test_round_one_has_the_first_cohort_of_the_workload() -> None:
    for number in (1, 2, 7):
        drawn = WorkloadCohort(name="w1").sample(1000, generator(SEED, number, "cohort"))
        assert drawn.tolist() == sorted(cohort("w1", number - 1).tolist())


def test_a_workload_that_is_not_supported_is_refused() -> None:
    with pytest.raises(ValueError, match="w4 clips"):
        make_job("w4")


@pytest.mark.usefixtures("small_w2")
def test_a_round_of_tacit_and_of_the_plain_loop_make_the_same_update() -> None:
    from benchmarks.reference.plain_loop import PlainLoop

    with TacitLoop("w2") as ours, PlainLoop("w2") as theirs:
        before = ours.vector()
        assert (before == theirs.vector()).all()
        for round in range(2):
            assert ours.play() > 0
            theirs.play(round)
        assert relative_error(ours.vector() - before, theirs.vector() - before) < 1e-5


def test_the_relative_error_is_a_share_of_the_expected_norm() -> None:
    assert relative_error(np.float32([3, 4.5]), np.float32([3, 4])) == pytest.approx(0.1)


def test_the_clock_tells_training_from_the_rest() -> None:
    figures = overhead.simulate(clients=200, hidden=4, rounds=8).figures()
    assert figures["weights"] == 4 * overhead.FEATURES + 4 + 2 * 4 + 2
    assert figures["rounds"] == 8 - overhead.WARM - 1
    assert 0 < figures["median_ms"] <= figures["p90_ms"]
    assert figures["training_median_ms"] > 0


def test_a_command_that_fails_has_no_time() -> None:
    assert startup.median_s((sys.executable, "-c", "pass"), times=1) is not None
    assert startup.median_s((sys.executable, "-c", "raise SystemExit(3)"), times=1) is None


def test_every_benchmark_can_be_named() -> None:
    command = [sys.executable, "-m", "benchmarks", "--help"]
    root = FOLDER.parent.parent
    shown = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    assert all(benchmark.name in shown for benchmark in BENCHMARKS)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_kept_result_can_still_be_read_as_a_table(path: Path) -> None:
    (benchmark,) = (benchmark for benchmark in BENCHMARKS if benchmark.name == path.stem)
    result = read(path)
    assert json.dumps(result.figures)
    assert all(len(row) == 5 for row in benchmark.rows(result.figures))
