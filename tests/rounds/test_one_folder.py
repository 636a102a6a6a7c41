"""Who may use a run folder, and what is made of one that is damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tacit
from tacit.core.errors import ConfigError, StoreError, TacitError
from tests.rounds import worlds
from tests.rounds.launcher import Launcher
from tests.rounds.test_kills import begun
from tests.rounds.worlds import told

Undisturbed = Callable[[str], dict[str, Any]]


def run(folder: Path, *, resume: bool = False, **settings: Any) -> tacit.Result:
    return tacit.run(worlds.job(**settings), worlds.population, folder=folder, resume=resume)


def refused(folder: Path, kind: type[TacitError], code: str, **settings: Any) -> str:
    """Check that a run is refused by that number, and return what it says."""
    with pytest.raises(kind) as caught:
        run(folder, **settings)
    assert caught.value.code == code
    assert caught.value.where
    assert caught.value.fix
    return str(caught.value)


@pytest.fixture(scope="module")
def killed_once(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "run"
    started = launcher.start("long", folder, pause_s=0.01)
    begun(started, folder, rounds=6)
    started.kill()
    started.wait()
    return folder


@pytest.fixture
def killed(killed_once: Path, folder: Path) -> Path:
    """The folder of a run that was killed after some rounds."""
    return Path(shutil.copytree(killed_once, folder))


def resumed(launcher: Launcher, folder: Path) -> dict[str, Any]:
    return launcher.run("long", folder, resume=True)


def test_a_second_run_into_a_folder_in_use_is_refused_and_harms_nobody(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path
) -> None:
    first = launcher.start("long", folder, pause_s=0.003)
    begun(first, folder)
    for resume in (False, True):
        second = launcher.run("long", folder, resume=resume)
        assert (second["status"], second["error"]["code"]) == (5, "T405")
    assert first.wait()["outcome"] == "completed"
    assert told(folder) == undisturbed("long")


def test_of_two_runs_that_start_together_one_wins(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path
) -> None:
    pair = [launcher.start("long", folder, pause_s=0.003) for _ in range(2)]
    ended = [started.wait() for started in pair]
    assert sorted(each["status"] for each in ended) == [0, 5]
    assert {each["error"]["code"] for each in ended if "error" in each} == {"T405"}
    assert told(folder) == undisturbed("long")


def test_a_folder_that_holds_a_run_takes_no_other(folder: Path) -> None:
    run(folder)
    before = told(folder)
    assert "--resume" in refused(folder, StoreError, "T403")
    refused(folder, StoreError, "T407", resume=True)
    assert told(folder) == before


def test_somebody_elses_files_are_not_overwritten(folder: Path) -> None:
    folder.mkdir()
    (folder / "job.toml").write_text("mine")
    for _ in range(2):  # the first attempt must not make the second one pass
        refused(folder, StoreError, "T403")
    refused(folder, StoreError, "T404", resume=True)
    assert (folder / "job.toml").read_text() == "mine"


def test_resuming_where_there_is_no_run_says_so_and_makes_nothing(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", StoreError, "T404", resume=True)
    (tmp_path / "notes.txt").write_text("mine")
    refused(tmp_path, StoreError, "T404", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_changed_job_is_not_resumed_and_the_message_names_what_changed(killed: Path) -> None:
    said = refused(killed, ConfigError, "T132", resume=True, rounds=41, seed=4)
    assert "rounds was 40 and is 41" in said
    assert "seed was 3 and is 4" in said
    said = refused(killed, ConfigError, "T132", resume=True, local=tacit.LocalSGD(lr=0.25, batch_size=5))
    assert "algorithm.local.lr was 0.1 and is 0.25" in said


def test_a_changed_job_harms_no_run(launcher: Launcher, undisturbed: Undisturbed, killed: Path) -> None:
    refused(killed, ConfigError, "T132", resume=True)
    assert resumed(launcher, killed)["outcome"] == "completed"
    assert told(killed) == undisturbed("long")


def test_a_model_that_changed_its_shape_under_the_same_name_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    monkeypatch.setattr(worlds, "CLASSES", 5)
    assert "numbers" in refused(tmp_path / "run", ConfigError, "T132", resume=True)


@pytest.mark.parametrize(
    "torn", [b'{"round": 99, "outco', b"\x00\xff\n", b"[1, 2]\n", b'{"round": "x"}\n', b"\n\n"]
)
def test_a_torn_line_is_forgotten(
    launcher: Launcher, undisturbed: Undisturbed, killed: Path, torn: bytes
) -> None:
    for name in ("rounds.jsonl", "metrics.jsonl", "privacy.jsonl"):
        with (killed / name).open("ab") as file:
            file.write(torn)
    assert resumed(launcher, killed)["outcome"] == "completed"
    assert told(killed) == undisturbed("long")


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "gone", "other"])
def test_a_damaged_checkpoint_is_a_numbered_error(killed: Path, launcher: Launcher, damage: str) -> None:
    snapshot = killed / "checkpoint" / "snapshot.safetensors"
    content = snapshot.read_bytes()
    made = {"empty": b"", "cut": content[:-20], "noise": bytes(range(256)) * 9}
    if damage == "gone":
        snapshot.unlink()
    elif damage == "other":
        snapshot.write_bytes(content.replace(b'\\"committed\\"', b'\\"comitted_\\"'))
    else:
        snapshot.write_bytes(made[damage])
    ended = resumed(launcher, killed)
    assert (ended["status"], ended["error"]["code"]) == (5, "T402")
    assert ended["error"]["where"] == str(snapshot)
    snapshot.write_bytes(content)


@pytest.mark.parametrize("name", ["run.json", "job.toml"])
@pytest.mark.parametrize("damage", [None, b"", b"\xff\xfe", b"[1, 2", b"name = 1"])
def test_a_damaged_or_missing_record_is_a_numbered_error(
    killed: Path, launcher: Launcher, name: str, damage: bytes | None
) -> None:
    if damage is None:
        (killed / name).unlink()
    else:
        (killed / name).write_bytes(damage)
    ended = resumed(launcher, killed)
    assert ended["error"]["code"] in ("T404", "T406", "T132"), ended
    assert (killed / "checkpoint" / "snapshot.safetensors").exists()
    refused(killed, StoreError, "T403")


def test_a_resumed_run_knows_how_often_it_was(launcher: Launcher, killed: Path) -> None:
    resumed(launcher, killed)
    info = json.loads((killed / "run.json").read_text())
    assert (info["resumed"], info["outcome"]) == (1, "completed")


@pytest.mark.parametrize("world", ["stragglers", "local_buffers"])
def test_a_job_of_every_kind_is_the_same_job_when_it_is_read_again(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path, world: str
) -> None:
    started = launcher.start(world, folder, pause_s=0.01)
    begun(started, folder)
    started.kill()
    started.wait()
    assert launcher.run(world, folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed(world)
