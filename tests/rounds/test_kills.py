"""kill -9 at any instant: a resumed run repeats what is missing and ends as if nothing had happened."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tacit.store import load_snapshot
from tests.rounds.launcher import Launcher, Started, until
from tests.rounds.worlds import assert_sound, told

Undisturbed = Callable[[str], dict[str, Any]]


def resume_to_the_end(launcher: Launcher, world: str, folder: Path, workers: int = 1) -> None:
    """Resume once; a process killed before it had made a folder left nothing to resume: start it."""
    ended = launcher.run(world, folder, workers=workers, resume=folder.exists())
    if ended["status"]:  # the only excuse: killed when all was done
        assert ended["error"]["code"] == "T407"


def begun(started: Started, folder: Path, rounds: int = 1) -> None:
    """Wait until a run has noted some rounds."""
    noted = folder / "rounds.jsonl"
    until(lambda: noted.exists() and noted.read_bytes().count(b"\n") >= rounds, str(started.log))


def assert_survives_killing(
    launcher: Launcher, expected: dict[str, Any], world: str, folder: Path, seed: int, workers: int
) -> None:
    rng = random.Random(seed)
    for attempt in range(rng.randint(1, 4)):
        started = launcher.start(
            world, folder, workers=workers, resume=attempt > 0 and folder.exists(), pause_s=0.002
        )
        time.sleep(rng.uniform(0, 1.0) + (1.5 if workers > 1 else 0))
        started.kill()
        assert started.wait()["status"] in (-signal.SIGKILL, 0, 5)
        started.until_alone()
    resume_to_the_end(launcher, world, folder)
    assert told(folder) == expected


@pytest.mark.parametrize(
    ("world", "seed"), [("long", 1), ("long", 2), ("stragglers", 3), ("local_buffers", 4)]
)
def test_kills_at_random_instants_change_nothing(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path, world: str, seed: int
) -> None:
    assert_survives_killing(launcher, undisturbed(world), world, folder, seed, workers=1)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["long", "stragglers", "poisson", "average_buffers", "local_buffers"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seed", range(10, 14))
def test_many_kills_at_random_instants_change_nothing(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path, world: str, workers: int, seed: int
) -> None:
    assert_survives_killing(launcher, undisturbed(world), world, folder, seed, workers)


def steps_on_the_disk(launcher: Launcher, tmp_path: Path) -> int:
    """Return how often an undisturbed run opens, renames, makes or removes something in its folder."""
    return int(launcher.run("plain", tmp_path / "counted", count_steps=True)["steps"])


def assert_survives_step(
    launcher: Launcher, expected: dict[str, Any], folder: Path, step: int, again: int | None = None
) -> None:
    died = launcher.run("plain", folder, die_at=step)
    assert died["status"] in (-signal.SIGKILL, 0)
    if again is not None and folder.exists():
        launcher.run("plain", folder, resume=True, die_at=again)
    resume_to_the_end(launcher, "plain", folder)
    assert told(folder) == expected
    assert (folder / "report.html").exists()
    assert_sound(folder)


def test_a_kill_at_a_step_on_the_disk_changes_nothing(
    launcher: Launcher, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    steps = steps_on_the_disk(launcher, tmp_path)
    for step in range(1, steps, 5):
        assert_survives_step(launcher, undisturbed("plain"), tmp_path / f"run-{step}", step)


@pytest.mark.slow
def test_a_kill_at_any_step_changes_nothing_nor_does_one_while_resuming(
    launcher: Launcher, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    for step in range(steps_on_the_disk(launcher, tmp_path)):
        for again in (None, (7 * step + 3) % 40):
            assert_survives_step(
                launcher, undisturbed("plain"), tmp_path / f"run-{step}-{again}", step, again
            )


def test_what_was_killed_with_two_workers_goes_on_with_one(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path
) -> None:
    started = launcher.start("long", folder, workers=2, pause_s=0.01)
    begun(started, folder, rounds=3)
    assert len(started.workers()) == 2
    for pid in started.family():  # what they share has no name that could outlive them
        assert "/dev/shm" not in Path(f"/proc/{pid}/maps").read_text()
    started.kill()
    started.until_alone()
    assert started.wait()["status"] == -signal.SIGKILL
    assert launcher.run("long", folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed("long")


def test_a_killed_worker_ends_the_run_with_a_number_and_resuming_loses_nothing(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path
) -> None:
    started = launcher.start("long", folder, workers=2, pause_s=0.01)
    begun(started, folder, rounds=3)
    os.kill(started.workers()[0], signal.SIGKILL)
    ended = started.wait()
    assert (ended["status"], ended["error"]["code"]) == (4, "T301")
    assert "resume" in ended["error"]["fix"]
    started.until_alone()
    assert not (folder / "model.safetensors").exists()
    assert launcher.run("long", folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed("long")


def test_checkpoints_are_written_while_rounds_go_on(launcher: Launcher, folder: Path) -> None:
    started = launcher.start("long", folder, pause_s=0.1)
    snapshot = folder / "checkpoint" / "snapshot.safetensors"
    for least in (1, 2):
        until(lambda: snapshot.exists() and load_snapshot(snapshot).round >= least)  # noqa: B023 - called here
        assert load_snapshot(snapshot).round < 40
    assert started.family()
    started.kill()
    started.wait()
