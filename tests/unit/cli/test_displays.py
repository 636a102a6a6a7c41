import io
import time

import pytest
from rich.console import Console

from tacit.cli.displays import LiveDisplay, NoDisplay, PlainDisplay, display_for
from tacit.cli.output import Output
from tacit.cli.standing import Standing
from tacit.round import EvaluationRecord, RoundRecord


def _record(number: int, outcome: str = "committed") -> RoundRecord:
    who = tuple(str(client) for client in range(20))
    return RoundRecord(round=number, outcome=outcome, reason="", invited=who, answered=who, train_loss=0.5)


def _lines(rounds: int, *, every: int = 1, outcome: str = "committed") -> list[str]:
    """Return the plain lines of a run."""
    file, standing = io.StringIO(), Standing(name="job", wanted=rounds, every=every)
    display = PlainDisplay(Console(file=file))
    display.begin(standing)
    for number in range(1, rounds + 1):
        standing.add(_record(number, outcome))
        display.round_closed()
        if outcome == "committed" and standing.is_measured:
            standing.evaluation = EvaluationRecord(round=number, central={"loss": 1 / number})
            display.measured()
    display.end()
    return file.getvalue().splitlines()


def test_a_short_run_has_a_line_for_each_round() -> None:
    lines = _lines(5)
    assert [line.split()[1] for line in lines] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert lines[1].endswith("test: loss 0.5  20/20 answered")


@pytest.mark.parametrize("rounds", [50, 1000, 20_000])
def test_a_long_run_has_few_lines_the_first_and_the_last_among_them(rounds: int) -> None:
    lines = _lines(rounds)
    assert 10 <= len(lines) <= 30
    assert f"1/{rounds}" in lines[0]
    assert f"{rounds}/{rounds}" in lines[-1]


def test_lines_come_at_once_where_a_round_is_not_measured() -> None:
    lines = _lines(4, every=4)
    assert ["training loss" in line for line in lines] == [True, True, True, False]
    assert "test:" in lines[-1]


def test_abandoned_rounds_are_told_but_not_without_end() -> None:
    assert len(_lines(500, outcome="abandoned")) == 10


def test_a_reader_that_goes_away_is_no_error() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    standing = Standing(wanted=1)
    display = PlainDisplay(Console(file=Closed()))
    display.begin(standing)
    standing.add(_record(1))
    display.round_closed()
    display.measured()


def test_a_terminal_gets_a_bar_and_is_left_as_it_was() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display, standing = LiveDisplay(console), Standing(name="job", wanted=10)
    display.begin(standing)
    standing.add(_record(1))
    standing.evaluation = EvaluationRecord(round=1, central={"accuracy": 0.625})
    time.sleep(0.6)
    display.end()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1/10 rounds" in shown
    assert "left" in shown
    assert "accuracy 0.625" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # erased


def test_the_display_follows_from_where_the_output_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(display_for(Output(), quiet=True), NoDisplay)
    assert isinstance(display_for(Output(), quiet=False), PlainDisplay)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(display_for(Output(), quiet=False), LiveDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display_for(Output(), quiet=False), PlainDisplay)
