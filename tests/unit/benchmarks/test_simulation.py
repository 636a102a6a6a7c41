import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.exactness import exactness, executor_update, plain_update
from benchmarks.reference.difference import relative_error
from benchmarks.reference.plain_loop import PlainLoop
from benchmarks.reference.workloads import WORKLOADS, cohort
from benchmarks.result import FOLDER
from benchmarks.simulation import standing
from benchmarks.tacit_loop import TacitLoop
from benchmarks.tacit_workloads import SEED, SeededNoise, WorkloadCohort
from tacit.core.randomness import generator
from tacit.core.spec import UpdateSpec
from tacit.core.stage import StageContext


def test_round_one_has_the_first_cohort_of_the_workload() -> None:
    for number in (1, 2, 7):
        drawn = WorkloadCohort(name="w1").sample(1000, generator(SEED, number, "cohort"))
        assert drawn.tolist() == sorted(cohort("w1", number - 1).tolist())


@pytest.mark.usefixtures("small_workloads")
def test_a_round_of_tacit_and_of_the_plain_loop_make_the_same_update() -> None:
    with TacitLoop("w2", executor="torch") as ours, PlainLoop("w2") as theirs:
        before = ours.vector()
        assert (before == theirs.vector()).all()
        for round in range(2):
            assert ours.play() > 0
            theirs.play(round)
        assert relative_error(ours.vector() - before, theirs.vector() - before) < 1e-5


@pytest.mark.usefixtures("small_workloads")
def test_w4_clips_alike_in_its_first_round_and_has_its_noise_in_the_second() -> None:
    with TacitLoop("w4", executor="torch") as ours, PlainLoop("w4") as theirs:
        first = ours.vector()
        ours.play()
        theirs.play(0, noise=False)
        assert relative_error(ours.vector() - first, theirs.vector() - first) < 0.01
        # Three updates of norm 1 at most: per coordinate nothing, compared with the noise.
        assert np.linalg.norm(ours.vector() - first) <= 1.0
        for loop, play in ((ours, ours.play), (theirs, lambda: theirs.play(1))):
            before = loop.vector()
            play()
            assert np.std(loop.vector() - before) == pytest.approx(0.5 / WORKLOADS["w4"].cohort, rel=0.01)


def test_the_noise_leaves_all_but_the_parameters_alone() -> None:
    spec = UpdateSpec.of(parameters=10_000, metrics=3)
    noise = SeededNoise(deviation=2.0, first_round=2)

    def decoded(round: int) -> np.ndarray:
        ctx = StageContext(spec, 0, round, (), np.zeros(0, dtype=np.int64))
        return noise.decode(np.zeros(spec.size), noise.plan(spec), ctx)

    assert not decoded(1).any()
    assert np.std(decoded(2)[:-3]) == pytest.approx(2.0, rel=0.05)
    assert not decoded(2)[-3:].any()
    assert (decoded(2)[:-3] != decoded(3)[:-3]).all()


@pytest.mark.usefixtures("small_workloads")
@pytest.mark.parametrize(
    ("name", "executor", "group"), [("w1", "torch", 1), ("w1", "rules", 2), ("w2", "rules", 4)]
)
def test_in_float64_nothing_but_the_rounding_of_an_update_is_left(
    name: str, executor: str, group: int
) -> None:
    figures = exactness(name, executor, group)
    assert (
        figures["float64_error"] < 3e-8
    )  # half a unit in float32's last place, in which torch hands it over
    assert figures["float32_error"] > figures["float64_error"]


@pytest.mark.usefixtures("small_workloads")
def test_an_executor_that_computes_something_else_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    right = WORKLOADS["w2"]
    expected = plain_update("w2", torch.float64)
    assert relative_error(executor_update("w2", "torch", 1, torch.float64), expected) < 1e-7
    monkeypatch.setitem(WORKLOADS, "w2", replace(right, lr=right.lr * (1 + 1e-4)))
    assert relative_error(executor_update("w2", "torch", 1, torch.float64), expected) > 1e-5


def test_what_two_processes_must_reach_is_said_beside_what_they_reach() -> None:
    assert standing("w1", 1.5, 900.0) == {
        "must_ratio": 1.5,
        "meets_ratio": True,
        "must_mb": 900,
        "meets_mb": True,
    }
    assert standing("w2", 11.9, 551.0)["meets_ratio"] is False
    assert standing("w2", 11.9, 551.0)["meets_mb"] is False
    assert standing("w4", 1.4, None)["meets_mb"] is None


@pytest.mark.slow
def test_the_command_tells_all_that_it_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.simulation", "--workload", "w2", "--rounds", "1", "--json"]
    output = subprocess.run(command, cwd=FOLDER.parent.parent, check=True, capture_output=True, text=True)
    figures = json.loads(output.stdout.splitlines()[-1])
    assert figures["processes"] == 2
    assert figures["ratio"] > 0
    assert figures["executor"] in ("torch", "rules", "stacked", "onnx")
    assert figures["relative_error"] < 1e-4
    assert figures["must_ratio"] == 12.0
