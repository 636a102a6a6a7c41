"""Runs with secure sums: with every message and mask, and without, the same."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacit
from tacit.core.errors import ConfigError, RunError
from tacit.core.rule import IntegerTotal
from tacit.round.messages import Assignment
from tacit.sim.engine import Call, Done, Engine
from tacit.store import RunFolder
from tests.rounds import worlds

CLIENTS = 24


def population() -> tacit.Population:
    """Like that of other runs, with more clients; one of them is broken."""
    return worlds.population(CLIENTS, holdout=0.25)


def secure(**settings: Any) -> tacit.Job:
    """A small job whose sums nobody sees into."""
    asked = {"min_cohort": 3, "corrupt": 0.1, "dropout": 0.3} | settings.pop("secure", {})
    known: dict[str, Any] = {
        "cohort": tacit.FixedSize(12),
        "rounds": 4,
        "clipping_bound": 2.0,
        "weighting": tacit.Weigh(cap=50),
        "secure_aggregation": tacit.SecureAggregation(**asked),
        "model": worlds.dropping,  # with enough weights for lanes that share a word
    }
    return worlds.job(**(known | settings))


def run(job: tacit.Job, folder: Path, **settings: Any) -> tacit.Result:
    return tacit.run(job, population, folder=folder, executor="torch", **settings)


def both(job: tacit.Job, folder: Path, **settings: Any) -> None:
    """Run a job ideally and with real masks."""
    places = folder.parent / "ideal", folder.parent / "real"
    for place, real in zip(places, (False, True), strict=True):
        with suppress(RunError):  # where too many rounds are abandoned: then both ways
            run(job, place, real_masks=real, **(settings if real else {}))
    assert worlds.told(places[0]) == worlds.told(places[1])


WORLDS: dict[str, Callable[[], tacit.Job]] = {
    "everybody answers": secure,
    "semi-honest": lambda: secure(secure={"mode": "semi_honest"}),
    "post-quantum": lambda: secure(secure={"post_quantum": True}, rounds=1),
    "wide lanes": lambda: secure(secure={"lane_bits": 48}),
    "several groups": lambda: secure(cohort=tacit.FixedSize(20), secure={"group": 7}),
    "some vanish": lambda: secure(world=tacit.World(dropout=tacit.RandomDropout(0.15)), rounds=6),
    "some vanish from groups": lambda: secure(
        cohort=tacit.FixedSize(20),
        secure={"group": 7},
        world=tacit.World(dropout=tacit.RandomDropout(0.2)),
        quorum=0.2,
        rounds=6,
    ),
    "some are late": lambda: secure(
        cohort=tacit.FixedSize(10, over_selection=1.4),
        deadline_s=14.0,
        world=worlds.SLOW_WORLD,
        quorum=0.3,
        rounds=6,
    ),
    "nobody comes before the deadline": lambda: secure(
        cohort=tacit.FixedSize(6),
        deadline_s=30.0,
        secure={"min_cohort": 5, "dropout": 0.2},
        world=tacit.World(duration=tacit.LogNormalDuration(median_s=10), dropout=tacit.RandomDropout(0.4)),
        rounds=3,
    ),
    "a group fails at its shares": lambda: secure(
        seed=526,
        cohort=tacit.FixedSize(17),
        quorum=0.2,
        deadline_s=8.0,
        secure={"group": 6},
        world=tacit.World(
            duration=tacit.LogNormalDuration(median_s=10, client_sigma=0.8, round_sigma=0.4),
            dropout=tacit.RandomDropout(0.1),
        ),
    ),
    "private": lambda: secure(
        clipping_bound=None,
        privacy=tacit.Privacy(
            unit="user",
            delta=1e-3,
            noise_multiplier=2.0,
            clipping=tacit.FixedClipping(bound=1.5),
            randomness="seeded",
        ),
    ),
}


@pytest.mark.parametrize("world", WORLDS)
def test_the_model_is_the_same_with_masks_and_without(world: str, folder: Path) -> None:
    both(WORLDS[world](), folder)


def test_the_worlds_lose_clients_and_groups(folder: Path) -> None:
    """Else the test above would compare too little."""
    run(WORLDS["some vanish from groups"](), folder)
    records = worlds.told(folder)["rounds"]
    assert any(record.get("dropped") for record in records)
    assert any("no sum" in reason for record in records for reason in record.get("failed", {}).values())
    assert any(record["outcome"] == "committed" for record in records)


def test_lanes_share_words_here() -> None:
    """Else packing would not be compared either."""
    plan = tacit.plan(secure(), population())
    assert plan.secure is not None
    assert plan.secure.ring.words < plan.grid.size


def test_what_a_secure_sum_hides_is_not_written_down_beside_it(folder: Path) -> None:
    result = run(secure(), folder)
    assert result.info.population is None
    assert all(record.per_client == {} for record in RunFolder.existing(folder).evaluations())


def test_workers_mask_what_they_train(folder: Path) -> None:
    both(WORLDS["some vanish"](), folder, workers=2)


def test_no_sum_of_fewer_than_the_least_is_opened(folder: Path) -> None:
    job = secure(
        cohort=tacit.FixedSize(6),
        secure={"min_cohort": 6, "dropout": 0.3},
        world=tacit.World(dropout=tacit.RandomDropout(0.6)),
        rounds=6,
    )
    with pytest.raises(RunError, match="rounds in a row were abandoned"):
        run(job, folder, real_masks=True)
    assert all(len(record["answered"]) in (0, 6) for record in worlds.told(folder)["rounds"])


def test_what_leaves_training_is_masked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of a worker's masked vectors looks random; the ideal one of the same clients does not."""
    seen: dict[bool, list[IntegerTotal]] = {True: [], False: []}
    train = Engine.train

    def watched(
        self: Engine, assignment: Assignment, vector: Any, calls: list[Call], total: IntegerTotal
    ) -> Done:
        before = total.copy()
        done = train(self, assignment, vector, calls, total)
        words = self._plan.secure.ring.words if self._plan.secure else 0
        if done.clients:
            seen[bool(calls[0].masks)].append((total - before)[: words if calls[0].masks else None])
        return done

    monkeypatch.setattr(Engine, "train", watched)
    both(secure(rounds=3), folder)
    bits = np.concatenate(seen[True]).view(np.uint8)
    ones = np.unpackbits(bits).mean()
    assert abs(ones - 0.5) < 5 * 0.5 / np.sqrt(8 * bits.size)
    assert np.concatenate(seen[False]).view(np.uint8).size
    assert all(np.abs(total).max() < 2**62 for total in seen[False])


def test_a_run_keeps_what_anybody_can_check_of_its_sums(folder: Path) -> None:
    """Each group's sum has one certificate, signed by enough of its survivors."""
    job = secure(cohort=tacit.FixedSize(20), secure={"group": 7})
    run(job, folder, real_masks=True)
    found = RunFolder.existing(folder).certificates()
    assert [(each.terms.round, each.terms.group) for each in found] == [
        (number, group) for number in range(1, 5) for group in range(3)
    ]
    records = worlds.told(folder)["rounds"]
    for record in records:
        sums = [each for each in found if each.terms.round == record["round"]]
        assert sum(len(each.survivors) for each in sums) == len(record["answered"])
        assert all(len(each.signatures) >= each.threshold for each in sums)
    assert len({each.terms.model_sha256 for each in found}) == 4


def test_real_masks_need_a_secure_sum(folder: Path) -> None:
    with pytest.raises(ConfigError, match="T125"):
        run(worlds.job(), folder, real_masks=True)


def test_an_id_too_long_for_the_messages_is_refused_before_anything_runs(folder: Path) -> None:
    people = {
        f"client-{'x' * 60}-{i}": (np.zeros((4, 6), np.float32), np.zeros(4, np.int64)) for i in range(12)
    }
    with pytest.raises(ConfigError, match="T126"):
        tacit.run(secure(), people, folder=folder, executor="torch")
    assert not folder.exists()
