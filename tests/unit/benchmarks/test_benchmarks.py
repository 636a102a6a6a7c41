import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import overhead, startup
from benchmarks.__main__ import BENCHMARKS
from benchmarks.reference.difference import relative_error
from benchmarks.result import FOLDER, Result, read


def test_a_result_reads_as_it_was_written(tmp_path: Path) -> None:
    result = Result.of("example", {"ratio": 1.5, "seconds": [0.25, None]})
    assert read(result.write(tmp_path)) == result
    assert result.date
    assert result.commit
    assert result.cores >= 1


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
