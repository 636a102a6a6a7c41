import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import first_round
from benchmarks.result import FOLDER
from benchmarks.scaling import EXAMPLES, FEATURES, MadeHoldings
from benchmarks.simulation import CACHE
from tacit import Population


def test_made_clients_have_the_same_examples_whenever_they_are_asked() -> None:
    population = Population(MadeHoldings.of(1_000_000))
    first, again, other = (population.train(index) for index in (999_999, 999_999, 7))
    assert first.inputs[0].shape == (EXAMPLES, FEATURES)
    assert (first.inputs[0] == again.inputs[0]).all()
    assert (first.target == again.target).all()
    assert (first.inputs[0] != other.inputs[0]).any()
    # What is to be learned: the first feature decides, but for some noise.
    examples = [population.train(index) for index in range(200)]
    agree = np.mean([(e.target == (e.inputs[0][:, 0] > 0)).mean() for e in examples])
    assert 0.7 < agree < 0.95


@pytest.mark.slow
def test_a_cohort_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.scaling", "--cohort", "1000", "--clients", "5000", "--json"]
    output = subprocess.run(
        command,
        cwd=FOLDER.parent.parent,
        env={**os.environ, CACHE: str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    figures = json.loads(output.stdout.splitlines()[-1])
    assert figures["cohort"] == 1000
    assert figures["us_per_client"] == pytest.approx(1000 * figures["seconds_per_round"], rel=0.1)


@pytest.mark.slow
def test_the_first_round_is_over_after_its_process_was_started(tmp_path: Path) -> None:
    told = first_round.once("torch", tmp_path)
    assert told["executor"] == "torch"
    assert 0.5 < told["seconds"] < 120
    assert told["workers_with_torch"] in (None, first_round.WORKERS)
