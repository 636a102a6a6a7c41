import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from tacit.core.errors import StoreError
from tacit.report import compare, summary_table
from tacit.round import EvaluationRecord
from tacit.store import RunFolder
from tests.unit.report import made_runs


def printed(renderable: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_has_the_key_figures(tmp_path: Path) -> None:
    folder = made_runs.digits(tmp_path / "digits")
    text = printed(
        summary_table(folder.info(), rounds=folder.rounds(), report=Path("runs/digits/report.html"))
    )
    for shown in (
        "digits  completed",
        "28 (2 more abandoned)",
        "9.3 s",
        "15.1 MB up",
        "not private",
        "report.html",
    ):
        assert shown in text
    line = next(line for line in text.splitlines() if line.startswith("accuracy"))
    assert line.split()[:3] == ["accuracy", "0.9343", "0.9309"]


def test_the_summary_of_a_run_that_failed_at_once(tmp_path: Path) -> None:
    info = msgspec.structs.replace(
        made_runs.INFO, outcome="failed", reason="no client answered", rounds=0, attempts=0
    )
    text = printed(summary_table(info))
    assert "no client answered" in text
    assert "26.5 kB up and 26.5 kB down a client and round" in text
    assert "worst tenth" not in text


def test_the_summary_takes_no_markup_from_others() -> None:
    info = msgspec.structs.replace(
        made_runs.INFO, name="[red]x[/red]", reason="[/nothing] \x1b[2J", outcome="failed"
    )
    text = printed(summary_table(info))
    assert "[red]x[/red]" in text
    assert "[/nothing]" in text
    assert "\x1b" not in text


@pytest.fixture
def two(tmp_path: Path) -> list[RunFolder]:
    digits = made_runs.digits(tmp_path / "digits")
    other = {**made_runs.SETTINGS, "seed": 8, "cohort": {"type": "all"}}
    info = msgspec.structs.replace(made_runs.INFO, name="other", outcome="interrupted", seed=8, seconds=75.0)
    measured = EvaluationRecord(round=4, central={"accuracy": 0.5})
    return [digits, made_runs.write(tmp_path / "other", info=info, settings=other, evaluations=[measured])]


def test_a_comparison_says_what_came_out_and_what_it_cost(two: list[RunFolder]) -> None:
    first, second = compare(two).runs
    assert (first.name, first.outcome, first.rounds, first.seed) == ("digits", "completed", 28, 7)
    assert first.bytes_up == 26_544 * sum(len(record.answered) for record in two[0].rounds())
    assert first.bytes_down == 26_520 * sum(len(record.invited) for record in two[0].rounds())
    assert first.central["accuracy"] == pytest.approx(0.9343, abs=1e-4)
    assert first.worst_10["accuracy"] is not None
    assert first.mean["accuracy"] is not None
    assert first.worst_10["accuracy"] < first.mean["accuracy"]
    assert second.central == {"accuracy": 0.5}
    assert second.mean == {}


def test_a_comparison_names_the_settings_that_differ(two: list[RunFolder]) -> None:
    assert compare(two).differences == {
        "seed": (7, 8),
        "cohort.type": ("fixed_size", "all"),
        "cohort.count": (20, None),
        "cohort.over_selection": (1.3, None),
    }


def test_a_comparison_is_json_and_frozen(two: list[RunFolder]) -> None:
    comparison = compare(two)
    plain = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert plain["runs"][1]["name"] == "other"
    assert plain["differences"]["cohort.count"] == [20, None]
    with pytest.raises(dataclasses.FrozenInstanceError):
        comparison.runs = ()  # type: ignore[misc]


def test_a_comparison_prints_as_a_table(two: list[RunFolder]) -> None:
    text = printed(compare(two), width=160)
    assert "accuracy, test set" in text
    assert "settings that differ" in text
    assert "cohort.over_selection" in text
    assert "1 min 15 s" in text


def test_equal_runs_differ_in_no_setting(two: list[RunFolder]) -> None:
    comparison = compare([two[0], two[0]])
    assert comparison.differences == {}
    assert "settings that differ" not in printed(comparison)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="T406"):
        compare([RunFolder(tmp_path)])
