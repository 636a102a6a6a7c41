"""The run folder: one writer, any number of readers, and nothing lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.core.errors import StoreError
from tacit.core.events import NonPrivateEvent
from tacit.round import EvaluationRecord, PrivacyRecord, RoundRecord
from tacit.store import RunFolder, RunInfo

INFO = RunInfo(name="small", outcome="running")


def record(number: int) -> RoundRecord:
    return RoundRecord(
        round=number, outcome="committed", reason="", invited=("ann",), answered=("ann",), train_loss=0.1
    )


def begun(path: Path, rounds: int = 3) -> RunFolder:
    folder = RunFolder.create(path)
    folder.write_job({"name": "small", "rounds": 3})
    folder.write_info(INFO)
    for number in range(1, rounds + 1):
        folder.note_round(record(number), PrivacyRecord(round=number, event=NonPrivateEvent()))
        folder.note_evaluation(EvaluationRecord(round=number))
    return folder


def code_of(error: Any) -> str:
    return str(error.value.code)


def test_what_is_written_is_read_while_it_is_being_written(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    reader = RunFolder.existing(tmp_path / "run")
    assert reader.rounds() == [record(1), record(2), record(3)]
    assert [each.round for each in reader.evaluations()] == [1, 2, 3]
    assert reader.info() == INFO
    assert reader.job() == {"name": "small", "rounds": 3}
    assert [line["round"] for line in reader.lines("privacy.jsonl")] == [1, 2, 3]
    folder.close()


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    for open_it in (RunFolder.create, RunFolder.reopen):
        with pytest.raises(StoreError) as caught:
            open_it(tmp_path / "run")
        assert code_of(caught) == "T405"
    folder.close()
    RunFolder.reopen(tmp_path / "run").close()


def test_a_folder_takes_one_run(tmp_path: Path) -> None:
    begun(tmp_path / "run").close()
    with pytest.raises(StoreError) as caught:
        RunFolder.create(tmp_path / "run")
    assert code_of(caught) == "T403"
    RunFolder.reopen(tmp_path / "run").close()  # the refusal let the lock go


@pytest.mark.parametrize("left", [[], ["lock"], ["lock", "checkpoint"], ["lock", "checkpoint", "job.toml"]])
def test_a_run_killed_before_it_had_begun_leaves_the_folder_free(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        if name == "checkpoint":
            (tmp_path / name).mkdir()
        else:
            (tmp_path / name.replace("lock", ".lock")).write_text("")
    assert RunFolder.is_unborn(tmp_path)
    begun(tmp_path).close()
    assert not RunFolder.is_unborn(tmp_path)


@pytest.mark.parametrize("names", [["job.toml"], ["rounds.jsonl"], ["thesis.tex"], [".lock", "job.toml"]])
def test_what_somebody_keeps_in_a_folder_is_no_unborn_run(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("mine")
    assert not RunFolder.is_unborn(tmp_path)


def test_a_folder_that_is_not_there_or_a_file_is_no_unborn_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not RunFolder.is_unborn(tmp_path / "nowhere")
    assert not RunFolder.is_unborn(tmp_path / "file")


def test_later_rounds_are_forgotten_and_the_others_stay_byte_for_byte(tmp_path: Path) -> None:
    begun(tmp_path / "run").close()
    before = {path.name: path.read_bytes().splitlines() for path in (tmp_path / "run").glob("*.jsonl")}
    folder = RunFolder.reopen(tmp_path / "run")
    folder.forget_after(2)
    for name, lines in before.items():
        assert (tmp_path / "run" / name).read_bytes().splitlines() == lines[:2]
    folder.note_round(record(3), PrivacyRecord(round=3, event=NonPrivateEvent()))
    assert len(folder.rounds()) == 3
    folder.close()


def test_reopening_sweeps_up_what_a_killed_process_left(tmp_path: Path) -> None:
    begun(tmp_path / "run").close()
    halves = [tmp_path / "run" / ".run.json.7.tmp", tmp_path / "run/checkpoint/.snapshot.safetensors.7.tmp"]
    for half in halves:
        half.write_text("half")
    RunFolder.reopen(tmp_path / "run").close()
    assert not any(half.exists() for half in halves)


@pytest.mark.parametrize(
    "torn", [b'{"round": 4, "outco', b"\xff\n", b"null\n", b"{}\n", b'{"round": null}\n']
)
def test_a_torn_line_ends_what_is_read(tmp_path: Path, torn: bytes) -> None:
    folder = begun(tmp_path / "run")
    with (tmp_path / "run" / "rounds.jsonl").open("ab") as file:
        file.write(torn)
    assert len(folder.rounds()) == 3
    folder.close()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"name": 1}', b'{"name": "x", "outcome": "?"}'])
def test_a_damaged_record_is_a_numbered_error(tmp_path: Path, content: bytes) -> None:
    begun(tmp_path / "run").close()
    (tmp_path / "run" / "run.json").write_bytes(content)
    with pytest.raises(StoreError) as caught:
        RunFolder.existing(tmp_path / "run").info()
    assert code_of(caught) == "T406"


@pytest.mark.parametrize("content", [None, b"\xff", b"name = ", b"[[["])
def test_damaged_settings_are_a_numbered_error(tmp_path: Path, content: bytes | None) -> None:
    begun(tmp_path / "run").close()
    path = tmp_path / "run" / "job.toml"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        RunFolder.existing(tmp_path / "run").job()
    assert code_of(caught) == "T406"


def test_no_folder_is_a_numbered_error(tmp_path: Path) -> None:
    for open_it in (RunFolder.existing, RunFolder.reopen):
        with pytest.raises(StoreError) as caught:
            open_it(tmp_path)
        assert code_of(caught) == "T404"


def test_a_run_is_finished_when_its_report_is_there(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    assert not folder.is_finished
    folder.write_info(RunInfo(name="small", outcome="completed"))
    assert not folder.is_finished
    folder.write_report("<html>")
    assert folder.is_finished
    folder.close()


def test_the_digest_is_that_of_the_models_file(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    digests = {folder.write_model({"w": np.arange(6, dtype=np.float32).reshape(2, 3).T}) for _ in range(2)}
    assert len(digests) == 1
    folder.sync()
    folder.close()
