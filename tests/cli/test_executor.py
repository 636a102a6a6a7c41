from pathlib import Path

import pytest
import torch


def test_run_says_who_trains_and_why(tacit, job: Path) -> None:
    assert "executor    torch: the run is too short for another executor to pay" in tacit("run", str(job)).out


def test_an_executor_can_be_named(tacit, job: Path) -> None:
    ended = tacit("run", str(job), "--executor", "rules", "--json")
    assert ended.code == 0
    assert ended.json["executor"] == "rules"
    assert "rules, 64 clients at a time: asked for; equal to torch to" in ended.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_here_is_refused_and_auto_does_without(tacit, job: Path) -> None:
    ended = tacit("run", str(job), "--device", "cuda")
    assert ended.code == 2
    assert "T105" in ended.err
    assert "no GPU here" in ended.err
    assert tacit("run", str(job), "--device", "auto").code == 0


def test_an_executor_that_nobody_knows_is_refused(tacit, job: Path) -> None:
    ended = tacit("run", str(job), "--executor", "rule")
    assert ended.code == 2
    assert "T141" in ended.err
    assert "did you mean `rules`?" in ended.err


def test_an_executor_that_cannot_train_a_task_is_refused_with_the_reason(tacit, job: Path) -> None:
    normalised = "nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10))"
    job.write_text(job.read_text().replace("nn.Linear(64, 10)", normalised))
    ended = tacit("run", str(job), "--executor", "rules")
    assert ended.code == 2
    assert "the executor `rules` cannot train this task: buffers" in ended.err


def test_doctor_says_where_choices_are_kept(tacit, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("TACIT_EXECUTORS", str(folder / "chosen"))
    checks = {check["name"]: check for check in tacit("doctor", "--json").json["checks"]}
    assert checks["executors"]["state"] == "good"
    assert str(folder / "chosen") in checks["executors"]["says"]
    (folder / "file").touch()
    monkeypatch.setenv("TACIT_EXECUTORS", str(folder / "file" / "chosen"))
    checks = {check["name"]: check for check in tacit("doctor", "--json").json["checks"]}
    assert checks["executors"]["state"] == "note"
    assert "TACIT_EXECUTORS" in checks["executors"]["fix"]
