"""Hostile servers, odd populations and settings at their limits: protection holds, or nothing is started."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.codec.adaptive_clip import REACH
from tacit.core.errors import TacitError
from tacit.round import RoundDevice
from tacit.round.messages import Assignment, AssignmentReceived, SendUpdates, TrainingDone
from tacit.training import Trained
from tests.attacks.privacy_checks import charged, check_noise, check_sensitivity
from tests.rounds import private_lives, worlds
from tests.rounds.private_runs import plan_of, private


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), -1.0, 0.0, 1e30, 1e-300])
def test_a_server_cannot_talk_a_device_out_of_its_clip(bound: float) -> None:
    plan = plan_of(private(clipping=tacit.AdaptiveClipping(initial=0.001)))
    device = RoundDevice(plan.codec, 0)
    given = Assignment("small", 1, None, True, bound, 0)
    device.receive(AssignmentReceived(given, ("c0", "c1")))
    rows = np.array([[500.0] * 38, [1e-9] * 38], np.float32)
    (sent,) = device.receive(TrainingDone(Trained(("c0", "c1"), rows, (3, 3))))
    assert isinstance(sent, SendUpdates)
    norms = np.linalg.norm(sent.rows[:, :-1].astype(np.float64), axis=1)
    assert norms.max() <= 0.001 * REACH
    assert bound > 0 or not norms.any()
    assert np.abs(sent.rows[:, -1]).max() <= 0.5


@pytest.mark.parametrize("cohort", [tacit.All(), tacit.Poisson(rate=1.0), tacit.FixedSize(1)], ids=repr)
def test_a_population_of_one_is_protected_as_well(folder: Path, cohort: Any) -> None:
    population = tacit.Population.of({"only": worlds.examples(1, 20)})
    job = private_lives.job(cohort=cohort, privacy=private(delta=0.1))
    result = tacit.run(job, population, folder=folder, executor="torch")
    assert result.outcome == "completed"
    assert len(charged(folder)) == 4
    check_noise(plan_of(private(delta=0.1), clients=1, cohort=cohort, rounds=2))
    check_sensitivity(plan_of(private(delta=0.01), clients=2, cohort=tacit.All(), rounds=1, quorum=0.1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_nobody_gains_from_a_sample_of_everybody() -> None:
    sampled, everybody = (
        plan_of(private(epsilon=1.0), cohort=cohort).private
        for cohort in (tacit.Poisson(rate=1.0), tacit.All())
    )
    assert sampled is not None
    assert everybody is not None
    assert sampled.noise_multiplier == pytest.approx(everybody.noise_multiplier, rel=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"privacy": private(trust="distributed")},
        {"privacy": private(adjacency="add_remove")},
        {"privacy": private(adjacency="add_remove"), "cohort": tacit.FixedSize(4)},
        {"privacy": private(adjacency="add_remove"), "cohort": tacit.Poisson(rate=0.5), "quorum": 0.1},
        {"privacy": private(delta=0.02)},
        {"privacy": private(min_separation=5)},
        {"privacy": private(mechanism=tacit.BandedInverse()), "cohort": tacit.FixedSize(4)},
        {"privacy": private(clipping=tacit.SegmentClipping(bounds={"weights": 1.0}))},
        {"privacy": private(epsilon=1e-9)},
        {"privacy": private(), "clipping_bound": 1.0},
        {"privacy": private(), "model": worlds.normalised},
        {"privacy": private(), "rounds": 2**53, "cohort": tacit.FixedSize(40)},
        {"privacy": private(), "stop": [tacit.Patience(on="clients")]},
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_started(
    folder: Path, settings: dict[str, Any]
) -> None:
    job = worlds.job(**({"cohort": tacit.All()} | settings))
    with pytest.raises(TacitError) as caught:
        tacit.run(job, worlds.population, folder=folder, executor="torch")
    assert caught.value.exit_code == 2
    assert caught.value.fix
    assert not folder.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": float("nan")},
        {"noise_multiplier": float("nan")},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": float("inf")},
        {"noise_multiplier": True},
        {"epsilon": "2"},
        {"epsilon": 1.0, "noise_multiplier": 1.0},
        {"noise_multiplier": None},
        {"unit": "site"},
        {"trust": "nobody"},
        {"min_separation": 0},
        {"clipping": 1.0},
        {"clipping": None},
        {"mechanism": "gaussian"},
        {"randomness": "none"},
        {"nonsense": 1},
    ],
)
def test_values_that_are_no_settings_are_refused(wrong: dict[str, Any]) -> None:
    known: dict[str, Any] = {"unit": "user", "delta": 1e-3, "noise_multiplier": 2.0}
    if "epsilon" in wrong and "noise_multiplier" not in wrong:
        del known["noise_multiplier"]
    with pytest.raises((TacitError, TypeError)):
        tacit.Privacy(**(known | wrong))
