"""How progress is shown: a live line on a terminal, plain lines elsewhere, or not at all."""

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from tacit.cli.output import Output
from tacit.cli.standing import Standing

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LINES = 25  # about as many plain lines as a run writes, however many rounds it has
_SILENCE_S = 15.0  # after which a line is due in any case
_COMPLAINTS = 10  # lines about abandoned rounds
_REFRESHES = 4  # live pictures a second: each costs a few milliseconds of one core


class Display(Protocol):
    """Shows how a run stands. Called once or twice a round, so it must cost next to nothing."""

    def begin(self, standing: Standing) -> None:
        """Show from now on how this run stands."""
        ...

    def round_closed(self) -> None:
        """Take note that a round has closed."""
        ...

    def measured(self) -> None:
        """Take note that the model was measured."""
        ...

    def end(self) -> None:
        """Leave the terminal as it was."""
        ...


def display_for(output: Output, *, quiet: bool) -> Display:
    """Return the display that suits where the output goes."""
    if quiet:
        return NoDisplay()
    if output.console.is_terminal and not output.console.is_dumb_terminal:
        return LiveDisplay(output.console)
    return PlainDisplay(output.console)


class NoDisplay:
    """Shows nothing."""

    def begin(self, standing: Standing) -> None:
        return

    def round_closed(self) -> None:
        return

    def measured(self) -> None:
        return

    def end(self) -> None:
        return


class PlainDisplay:
    """Writes a line for every round of a short run, and for some rounds of a long one.

    A reader that goes away (``| head``) does not end the run.

    Args:
        console: Where to.
    """

    def __init__(self, console: "Console") -> None:
        self._file = console.file
        self._standing = Standing()
        self._due, self._step, self._complaints = True, 1, 0
        self._last = monotonic()

    def begin(self, standing: Standing) -> None:
        self._standing, self._step = standing, _nice(standing.wanted / _LINES)

    def round_closed(self) -> None:
        standing, record = self._standing, self._standing.record
        abandoned = record is not None and record.outcome == "abandoned"
        if abandoned:
            self._complaints += 1
            self._due = self._complaints <= _COMPLAINTS
        else:
            self._due = self._is_due(standing)
        if self._due and (abandoned or not standing.is_measured):
            self._write()

    def measured(self) -> None:
        if self._due:
            self._write()

    def end(self) -> None:
        return

    def _is_due(self, standing: Standing) -> bool:
        is_edge = standing.committed in (standing.first + 1, standing.wanted)
        return is_edge or standing.committed % self._step == 0 or monotonic() - self._last > _SILENCE_S

    def _write(self) -> None:
        standing = self._standing
        self._due, self._last = False, monotonic()
        place = f"{standing.committed:>{len(str(standing.wanted))}}/{standing.wanted}"
        with suppress(BrokenPipeError):
            self._file.write(f"round {place}  {standing.words()}\n")
            self._file.flush()


def _nice(least: float) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50, ... that is not below ``least``.

    >>> _nice(0.4), _nice(3), _nice(40)
    (1, 5, 50)
    """
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10


class LiveDisplay:
    """Keeps a progress bar up to date; a thread of its own draws it, the run only changes values.

    Args:
        console: A terminal.
    """

    def __init__(self, console: "Console") -> None:
        from rich.live import Live

        self._standing = Standing()
        self._live = Live(
            get_renderable=self._picture, console=console, refresh_per_second=_REFRESHES, transient=True
        )

    def begin(self, standing: Standing) -> None:
        self._standing = standing
        self._live.start()

    def round_closed(self) -> None:
        return

    def measured(self) -> None:
        return

    def end(self) -> None:
        self._live.stop()

    def _picture(self) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        from tacit.report.words import duration

        standing = self._standing
        left = standing.seconds_left
        bar = ProgressBar(total=standing.wanted, completed=standing.committed, width=40)
        ahead = "" if left is None else f"{duration(left)} left"
        lost = f"{standing.abandoned} abandoned" if standing.abandoned else ""
        top = Table.grid(padding=(0, 2))
        top.add_row(
            Text(standing.name, "bold"), bar, f"{standing.committed}/{standing.wanted} rounds", ahead, lost
        )
        picture = Table.grid()
        picture.add_row(top)
        picture.add_row(Text(standing.words(), "dim", overflow="ellipsis", no_wrap=True))
        return picture
