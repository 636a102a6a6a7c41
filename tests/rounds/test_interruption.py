"""Ctrl-C and SIGTERM: the run stops cleanly, and goes on later as if it had not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tacit
from tests.rounds import worlds
from tests.rounds.launcher import Launcher, until
from tests.rounds.test_kills import begun
from tests.rounds.worlds import told

Undisturbed = Callable[[str], dict[str, Any]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_and_resuming_ends_with_the_same_model(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path, number: int
) -> None:
    started = launcher.start("long", folder, pause_s=0.005)
    begun(started, folder, rounds=4)
    started.kill(number)
    assert started.wait() == {"status": 130, "outcome": "interrupted", "steps": 0}
    so_far = told(folder)
    assert so_far["outcome"] == "interrupted"
    assert so_far["committed"] >= 4
    assert (folder / "report.html").exists()
    assert not (folder / "model.safetensors").exists()
    assert launcher.run("long", folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed("long")


@pytest.mark.parametrize(
    ("world", "step"),
    [
        ("long", 41),
        ("local_buffers", 17),
        pytest.param("stragglers", 13, marks=pytest.mark.slow),
        pytest.param("poisson", 13, marks=pytest.mark.slow),
    ],
)
def test_an_interruption_by_any_client_changes_nothing(
    undisturbed: Undisturbed, folder: Path, monkeypatch: pytest.MonkeyPatch, world: str, step: int
) -> None:
    expected, job, outcome = undisturbed(world), getattr(worlds, world)(), "interrupted"
    monkeypatch.setattr(worlds.Loader, "asked", [])
    for attempt in range(60):  # a longer way each time: a round that is interrupted begins anew
        monkeypatch.setattr(worlds.Loader, "interrupt_at", len(worlds.Loader.asked) + step + 5 * attempt)
        outcome = tacit.run(job, worlds.population, folder=folder, resume=attempt > 0).outcome
        if outcome == "completed":
            break
    assert outcome == "completed"
    assert attempt > 2
    assert told(folder) == expected


@pytest.mark.parametrize(
    "world", ["long", *(pytest.param(w, marks=pytest.mark.slow) for w in ("stragglers", "local_buffers"))]
)
def test_an_interruption_at_any_instant_changes_nothing(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path, world: str
) -> None:
    for attempt in range(4):
        started = launcher.start(world, folder, resume=attempt > 0, pause_s=0.004)
        begun(started, folder)
        time.sleep(0.017 * attempt)  # between two checks, in different places
        started.kill(signal.SIGINT)
        if started.wait().get("outcome") == "completed":
            break
    else:
        assert launcher.run(world, folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed(world)


def test_ctrl_c_for_the_whole_group_interrupts_a_run_with_workers(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path
) -> None:
    started = launcher.start("long", folder, workers=2, pause_s=0.01)
    begun(started, folder, rounds=2)
    os.killpg(started.pid, signal.SIGINT)
    assert started.wait()["outcome"] == "interrupted"
    started.until_alone()
    assert "Traceback" not in started.log.read_text()
    assert launcher.run("long", folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed("long")


@pytest.mark.slow
def test_sigterm_for_the_whole_group_interrupts_and_does_not_look_like_a_dead_worker(
    launcher: Launcher, folder: Path
) -> None:
    started = launcher.start("long", folder, workers=2, pause_s=0.01)
    begun(started, folder, rounds=2)
    os.killpg(started.pid, signal.SIGTERM)
    assert started.wait()["outcome"] == "interrupted"
    started.until_alone()


@pytest.mark.parametrize(
    "after_s", [0.1, pytest.param(0.0, marks=pytest.mark.slow), pytest.param(0.6, marks=pytest.mark.slow)]
)
def test_ctrl_c_while_workers_start_stops_at_once_and_leaves_nothing(
    launcher: Launcher, folder: Path, after_s: float
) -> None:
    started = launcher.start("long", folder, workers=2, pause_s=0.01)
    until(lambda: bool(started.family()))
    time.sleep(after_s)
    os.killpg(started.pid, signal.SIGINT)
    assert started.wait()["status"] in (130, -signal.SIGINT)
    started.until_alone()


def test_asking_twice_stops_at_once_and_loses_no_round(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path
) -> None:
    started = launcher.start("plain", folder, pause_s=0.03)
    begun(started, folder)
    started.kill(signal.SIGINT)
    time.sleep(0.01)
    started.kill(signal.SIGINT)
    assert started.wait()["outcome"] in ("interrupted", "stopped")  # the second may find the run ending
    assert launcher.run("plain", folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed("plain")
