"""Whole runs: an executor is chosen before the first round, recorded, and kept by whoever resumes."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import tacit
from tacit.core.errors import ConfigError
from tacit.round import RoundRecord
from tacit.sim.observer import Silent
from tacit.store import RunFolder, RunInfo
from tacit.training.executor import Choice
from tests.rounds import worlds
from tests.rounds.worlds import job, told


class Listener(Silent):
    """Remembers who was chosen, and asks to stop after a round."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.chosen: list[Choice] = []
        self._stop_after = stop_after

    def executor_chosen(self, choice: Choice) -> None:
        self.chosen.append(choice)

    def round_closed(self, record: RoundRecord) -> None:
        if record.round == self._stop_after:
            os.kill(os.getpid(), signal.SIGINT)


def run(folder: Path, observer: Silent | None = None, **settings: Any) -> tacit.Result:
    made = settings.pop("job", None) or worlds.stragglers()
    return tacit.run(made, worlds.population, folder=folder, observer=observer, **settings)


@pytest.fixture
def every_run_is_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let small runs be calibrated, without exports, and nothing be known from before."""
    monkeypatch.setattr("tacit.sim.choosing._FEW_STEPS", 0)
    monkeypatch.setattr("tacit.sim.choosing._SHORT_S", 0.0)
    monkeypatch.setenv("TACIT_EXECUTORS", str(tmp_path / "executors"))


def test_an_executor_that_is_asked_for_trains_and_is_recorded(folder: Path) -> None:
    listener = Listener()
    info = run(folder, listener, executor="rules").info
    (choice,) = listener.chosen
    assert (info.executor, info.group, info.executor_reason) == ("rules", choice.group, choice.reason)
    assert choice.group == 64
    assert "rules, 64 clients at a time" in (folder / "report.html").read_text()
    assert choice.reason in (folder / "report.html").read_text()


@pytest.mark.parametrize("executor", ["rules", "stacked", "onnx"])
def test_all_executors_give_what_torch_gives_but_for_rounding(folder: Path, executor: str) -> None:
    one, other = (run(folder.with_name(name), executor=name) for name in (executor, "torch"))
    assert [r.answered for r in one.rounds] == [r.answered for r in other.rounds]
    for ours, theirs in zip(one.history, other.history, strict=True):
        assert ours.central["loss"] == pytest.approx(theirs.central["loss"], rel=1e-5)


@pytest.mark.parametrize("executor", ["rules", "stacked", "onnx"])
def test_two_workers_give_the_same_run_with_any_executor(folder: Path, executor: str) -> None:
    run(folder, executor=executor)
    run(folder.with_name("two"), executor=executor, workers=2)
    assert told(folder.with_name("two")) == told(folder)


@pytest.mark.usefixtures("every_run_is_long")
def test_what_calibration_finds_is_kept_so_that_the_same_run_is_the_same_again(folder: Path) -> None:
    first = run(folder).info
    again = run(folder.with_name("again"), workers=2).info
    assert told(folder.with_name("again")) == told(folder)
    assert (again.executor, again.group, again.executor_reason) == (
        first.executor,
        first.group,
        first.executor_reason,
    )


@pytest.mark.usefixtures("every_run_is_long")
@pytest.mark.parametrize("asked", ["auto", "rules", "stacked"])
def test_a_resumed_run_keeps_the_executor_it_began_with(
    folder: Path, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = folder.with_name("whole")
    run(whole, executor=asked)
    stopped = run(folder, Listener(stop_after=3), executor=asked)
    assert stopped.outcome == "interrupted"
    before = stopped.info
    # Elsewhere nothing is known, and calibration would find something else.
    monkeypatch.setattr("tacit.sim.simulate.choose", lambda *a, **k: pytest.fail("chosen anew"))
    info = run(folder, resume=True).info
    assert (info.executor, info.group, info.executor_reason) == (
        before.executor,
        before.group,
        before.executor_reason,
    )
    assert told(folder) == told(whole)


def test_a_run_cannot_be_resumed_with_another_executor(folder: Path) -> None:
    run(folder, Listener(stop_after=2), executor="rules")
    with pytest.raises(ConfigError, match="the run began with the executor `rules`, not `torch`") as caught:
        run(folder, resume=True, executor="torch")
    assert caught.value.code == "T142"
    assert run(folder, resume=True, executor="rules").outcome == "completed"


def test_a_change_of_the_job_is_told_before_anything_about_executors(folder: Path) -> None:
    run(folder, Listener(stop_after=2), executor="rules")
    with pytest.raises(ConfigError) as caught:
        run(folder, job=job(model=worlds.normalised), resume=True)
    assert caught.value.code == "T132"


def test_a_run_from_before_executors_were_chosen_goes_on_with_torch(folder: Path) -> None:
    run(folder, Listener(stop_after=2), executor="torch")
    path = folder / "run.json"
    known = json.loads(path.read_text())
    for name in ("group", "executor_reason"):
        del known[name]
    path.write_text(json.dumps(known))
    info = run(folder, resume=True).info
    assert (info.outcome, info.executor, info.group) == ("completed", "torch", 64)


def test_what_cannot_be_trained_as_asked_starts_nothing(folder: Path) -> None:
    with pytest.raises(ConfigError, match="buffers") as caught:
        run(folder, job=worlds.average_buffers(), executor="rules")
    assert caught.value.code == "T158"
    with pytest.raises(ConfigError) as caught:
        run(folder, executor="rule")
    assert caught.value.code == "T141"
    assert not folder.exists()


def test_a_run_whose_program_is_lost_is_not_resumed(folder: Path) -> None:
    run(folder, Listener(stop_after=2), executor="stacked")
    program = folder / "checkpoint" / "program.onnx"
    assert hashlib.sha256(program.read_bytes()).hexdigest() == RunFolder(folder).info().program_sha256
    whole = program.read_bytes()
    program.write_bytes(whole[:-1])
    with pytest.raises(ConfigError, match="its program is missing or damaged") as caught:
        run(folder, resume=True)
    assert caught.value.code == "T142"
    program.write_bytes(whole)
    assert run(folder, resume=True).outcome == "completed"


def test_a_folder_keeps_a_program(folder: Path) -> None:
    written = RunFolder.create(folder)
    assert written.program() is None
    written.write_program(b"a program")
    written.write_info(RunInfo(name="small", outcome="running"))
    written.close()
    assert RunFolder.existing(folder).program() == b"a program"
