"""The model does not depend on how many processes train, in which order clients answer, or how data comes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tacit
from tests.rounds import worlds
from tests.rounds.launcher import REPOSITORY, Launcher
from tests.rounds.worlds import told

Undisturbed = Callable[[str], dict[str, Any]]
WORLDS = ["stragglers", "poisson", "average_buffers", "local_buffers"]


def assert_same_with(workers: int, world: str, folder: Path, expected: dict[str, Any]) -> None:
    tacit.run(getattr(worlds, world)(), worlds.population, folder=folder, workers=workers)
    assert told(folder) == expected


@pytest.mark.parametrize("world", ["local_buffers"])
def test_two_workers_give_the_same_run_as_one(undisturbed: Undisturbed, folder: Path, world: str) -> None:
    assert_same_with(2, world, folder, undisturbed(world))


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_run(
    undisturbed: Undisturbed, folder: Path, world: str, workers: int
) -> None:
    assert_same_with(workers, world, folder, undisturbed(world))


def test_the_worlds_of_these_tests_show_what_they_are_for(undisturbed: Undisturbed) -> None:
    stragglers = undisturbed("stragglers")["rounds"]
    for what in ("partial_work", "dropped", "late"):
        assert any(record[what] for record in stragglers), what
    assert len({len(record["invited"]) for record in undisturbed("poisson")["rounds"]}) > 1
    assert any(record["failed"] and not record["late"] for record in undisturbed("long")["rounds"])
    again = [r for r in undisturbed("local_buffers")["rounds"] if r["failed"] and len(r["answered"]) == 5]
    assert again  # somebody failed, and somebody else was trained in a second wave


@pytest.mark.parametrize(
    "world",
    [
        tacit.World(duration=tacit.LogNormalDuration(client_sigma=2.0)),
        tacit.World(duration=tacit.LogNormalDuration(per_example_s=3.0, client_sigma=0.1, round_sigma=1.5)),
    ],
)
def test_the_order_in_which_the_same_clients_answer_does_not_matter(folder: Path, world: tacit.World) -> None:
    digests = set()
    for place, durations in ((folder, world), (folder.with_name("at-once"), tacit.World())):
        job = worlds.job(cohort=tacit.All(), world=durations, rounds=3, task=task_with_buffers())
        digests.add(tacit.run(job, worlds.population, folder=place).info.model_sha256)
    assert len(digests) == 1


def task_with_buffers() -> tacit.Task:
    return tacit.Task(model=worlds.normalised, metrics=["accuracy"])


SCRIPT = '''
import sys
import numpy as np
import tacit
from torch import nn

class Patients:
    """A map-style Dataset."""
    def __init__(self, seed):
        self.seed = seed
    def __len__(self):
        return 9 + self.seed
    def __getitem__(self, index):
        rng = np.random.default_rng((self.seed, index))
        return rng.standard_normal(4).astype(np.float32), int(rng.integers(0, 2))

def model():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))

def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets) * 0.5

def share(outputs, targets):
    return (outputs.argmax(dim=1) == targets).float().mean()

rng = np.random.default_rng(0)
np.save(FOLDER + "/x.npy", rng.standard_normal((40, 4)).astype(np.float32))
mapped = np.load(FOLDER + "/x.npy", mmap_mode="r")
labels = rng.integers(0, 2, 40)
clients = {
    "arrays": (rng.standard_normal((11, 4)), rng.integers(0, 2, 11)),
    "mapped": (mapped[:13], labels[:13]),
    "mapped, the rest": (mapped[13:], labels[13:]),
    "dataset": Patients(1),
    "function": lambda: (np.full((5, 4), 0.25, np.float32), labels[:5]),
}
population = tacit.Population.of(clients, holdout=0.2, test=lambda: Patients(7))
job = tacit.Job(
    name="script",
    task=tacit.Task(model=model, loss=loss, metrics=[share, lambda outputs, targets: outputs.abs().mean()]),
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1, batch_size=3, shuffle=False)),
    cohort=tacit.All(),
    rounds=3,
)
found = [
    tacit.run(job, population, folder=f"{FOLDER}/{workers}", workers=workers).info.model_sha256
    for workers in COUNTS
]
'''


def test_a_script_without_a_main_guard_may_define_everything_itself(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('a file of the working directory was imported')")
    script = tmp_path / "scripts" / "study.py"
    script.parent.mkdir()
    script.write_text(
        f"FOLDER, COUNTS = {str(tmp_path)!r}, (1, 2)\n{SCRIPT}\nprint(len(set(found)), found[0])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 ")
    assert done.stderr == ""


@pytest.mark.slow
def test_a_notebook_may_define_everything_itself(launcher: Launcher, tmp_path: Path) -> None:
    code = f"FOLDER, COUNTS = {str(tmp_path)!r}, (1, 2)\n{SCRIPT}"
    ended = launcher.run("", tmp_path / "run", code=code)
    assert len(ended["found"]) == 2, ended
    assert len(set(ended["found"])) == 1


@pytest.mark.slow
def test_the_digits_example_gives_the_same_model_with_two_workers(tmp_path: Path) -> None:
    loaded = tacit.load_job(REPOSITORY / "examples" / "digits.py", ["rounds=5"])
    digests = {
        tacit.run(
            loaded.job, loaded.population, folder=tmp_path / str(workers), workers=workers
        ).info.model_sha256
        for workers in (1, 2)
    }
    assert len(digests) == 1
