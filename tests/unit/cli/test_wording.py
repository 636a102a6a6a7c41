import json
import os

import pytest
import typer

from tacit.cli.failures import CommandFailed, guarded
from tacit.cli.wording import worded
from tacit.core.errors import RunError, StoreError


def _ends(error: BaseException, *, as_json: bool = False) -> int:
    def action() -> int:
        raise error

    return guarded(action, as_json=as_json)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("T401", "full"), 5),
        (RunError("T304", "bad"), 4),
        (CommandFailed(RunError("T304", "bad"), {}), 4),
        (typer.BadParameter("no"), 2),
        (MemoryError(), 4),
        (PermissionError(13, "Permission denied", "/some/file"), 5),
        (KeyboardInterrupt(), 130),
        (typer.Exit(3), 3),
        (RuntimeError("a bug"), 1),
    ],
)
def test_every_end_has_its_exit_code(error: BaseException, code: int) -> None:
    assert _ends(error) == code


def test_a_bug_keeps_its_traceback_and_asks_to_be_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends(RuntimeError("a bug"), as_json=True) == 1
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert "RuntimeError: a bug" in captured.err
    assert "report it" in captured.err
    assert json.loads(captured.out)["error"]["kind"] == "RuntimeError"


def test_what_is_known_goes_beside_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"outcome": "failed", "resume": "tacit run x --resume"}
    _ends(CommandFailed(RunError("T304", "bad", fix="Mend it."), known), as_json=True)
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["outcome"] == "failed"
    assert said["error"]["fix"] == "Mend it."
    assert "tacit run x --resume" in captured.err


def test_ctrl_c_before_the_run_leaves_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert _ends(KeyboardInterrupt(), as_json=True) == 130
    assert json.loads(capsys.readouterr().out) == {"outcome": "interrupted"}


def test_markup_in_an_error_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    _ends(RunError("T304", "[bold]not bold[/bold]", where="[red]"))
    assert "[bold]not bold[/bold]" in capsys.readouterr().err


def test_a_library_that_refuses_the_data_is_no_bug_once_a_run_has_begun() -> None:
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    said = worded(caught.value, started=True)
    assert said is not None
    assert said.code == "T307"
    assert worded(caught.value, started=False) is None


def test_a_closed_pipe_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "dup2", lambda *handles: None)
    assert _ends(BrokenPipeError()) == 141
    assert capsys.readouterr() == ("", "")
