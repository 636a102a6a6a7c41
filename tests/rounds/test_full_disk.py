"""A disk that is full, read-only or gone: a numbered error, the last checkpoint whole, and nothing lost."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tacit
from tacit.core.errors import StoreError
from tacit.round import RoundRecord
from tacit.sim.observer import Silent
from tacit.store import RunInfo
from tests.rounds import worlds
from tests.rounds.launcher import Launcher
from tests.rounds.test_kills import begun
from tests.rounds.worlds import assert_sound, told

Undisturbed = Callable[[str], dict[str, Any]]
NOBODY = 65534


@pytest.mark.parametrize("most_bytes", [100, 3000, 8000])
def test_a_file_that_may_not_grow_ends_in_a_numbered_error_and_resuming_loses_nothing(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path, most_bytes: int
) -> None:
    ended = launcher.run("long", folder, most_bytes=most_bytes)
    assert (ended["status"], ended["error"]["code"]) == (5, "T401"), ended
    assert ended["error"]["where"]
    assert "resume" in ended["error"]["fix"]
    assert_sound(folder)
    assert launcher.run("long", folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed("long")
    assert (folder / "report.html").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few pages, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=48k", "none", str(place)]
    if os.geteuid() or mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_in_a_numbered_error_and_resuming_loses_nothing(
    launcher: Launcher, undisturbed: Undisturbed, small_disk: Path
) -> None:
    folder = small_disk / "run"
    ended = launcher.run("long", folder)
    assert (ended["status"], ended["error"]["code"]) == (5, "T401"), ended
    assert "No space left" in ended["error"]["what"]
    assert_sound(folder)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert launcher.run("long", folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed("long")
    assert_sound(folder)


def test_a_report_that_finds_no_room_leaves_the_model_and_is_written_on_resuming(
    launcher: Launcher, undisturbed: Undisturbed, folder: Path
) -> None:
    ended = launcher.run("plain", folder, most_bytes=9000)
    assert (ended["status"], ended["error"]["code"]) == (5, "T401")
    assert "report.html" in ended["error"]["where"]
    assert told(folder) == undisturbed("plain")
    assert launcher.run("plain", folder, resume=True)["outcome"] == "completed"
    assert (folder / "report.html").exists()
    assert told(folder) == undisturbed("plain")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    for resume in (False, True):
        with pytest.raises(StoreError) as caught:
            tacit.run(worlds.plain(), worlds.population, folder=place, resume=resume)
        assert caught.value.code == ("T404" if resume else "T401")
    assert place.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_this_user_may_not_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError) as caught:
        tacit.run(worlds.plain(), worlds.population, folder=tmp_path / "run")
    assert caught.value.code == "T401"
    tmp_path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_may_not_be_written_to_is_refused(launcher: Launcher, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path.parent, launcher.folder.parent):
        place.chmod(0o755)
    ended = launcher.run("plain", tmp_path / "run", user=NOBODY)
    assert (ended["status"], ended["error"]["code"]) == (5, "T401"), ended
    assert "write to" in ended["error"]["fix"]
    assert list(tmp_path.iterdir()) == []


class Remover(Silent):
    """Deletes the folder while the run goes on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ended: RunInfo | None = None

    def round_closed(self, record: RoundRecord) -> None:
        if record.round == 3:
            shutil.rmtree(self.folder)

    def finished(self, info: RunInfo) -> None:
        self.ended = info


def test_a_folder_that_is_deleted_ends_the_run_with_a_numbered_error(tmp_path: Path) -> None:
    observer = Remover(tmp_path / "run")
    with pytest.raises(StoreError) as caught:
        tacit.run(worlds.plain(), worlds.population, folder=tmp_path / "run", observer=observer)
    assert caught.value.code == "T401"
    assert observer.ended is None
    assert not (tmp_path / "run").exists()


def test_a_run_killed_by_a_full_disk_keeps_its_last_checkpoint(
    launcher: Launcher, folder: Path, undisturbed: Undisturbed
) -> None:
    started = launcher.start("long", folder, pause_s=0.01)
    begun(started, folder, rounds=5)
    started.kill()
    started.wait()
    before = (folder / "checkpoint" / "snapshot.safetensors").read_bytes()
    ended = launcher.run("long", folder, resume=True, most_bytes=300)
    assert ended["error"]["code"] == "T401"
    assert (folder / "checkpoint" / "snapshot.safetensors").read_bytes() == before
    assert launcher.run("long", folder, resume=True)["outcome"] == "completed"
    assert told(folder) == undisturbed("long")
