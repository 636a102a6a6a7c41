import shlex
from pathlib import Path

import pytest

from tacit.cli.resume import newest_unfinished, resume_command
from tacit.core.errors import StoreError
from tacit.store import RunFolder, RunInfo


def _run(place: Path, name: str, outcome: str, started: str) -> Path:
    folder = RunFolder.create(place)
    folder.write_info(RunInfo(name=name, outcome=outcome, started=started))
    if outcome == "completed":
        folder.write_report("<p>")
    folder.close()
    return place


def test_the_newest_unfinished_run_of_that_name_is_found(tmp_path: Path) -> None:
    _run(tmp_path / "a", "mine", "interrupted", "2025-01-01T00:00:00+00:00")
    wanted = _run(tmp_path / "b", "mine", "running", "2025-01-02T00:00:00+00:00")
    _run(tmp_path / "c", "mine", "completed", "2025-01-03T00:00:00+00:00")
    _run(tmp_path / "d", "other", "interrupted", "2025-01-04T00:00:00+00:00")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "run.json").write_text("torn")
    assert newest_unfinished("mine", tmp_path) == wanted


def test_where_there_is_none_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="T409"):
        newest_unfinished("mine", tmp_path / "nowhere")


def test_the_command_survives_a_shell() -> None:
    options = {"--workers": 2, "--cluster": None, "--data": Path("d e")}
    command = resume_command(Path("my job.py"), "runs/a b", ["name='x y'"], options, as_json=True)
    assert shlex.split(command) == [
        *("tacit", "run", "my job.py", "--set", "name='x y'", "--out", "runs/a b", "--resume"),
        *("--workers", "2", "--data", "d e", "--json"),
    ]
