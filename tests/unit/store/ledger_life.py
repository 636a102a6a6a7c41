"""A life that reserves, releases and is killed: run as ``python -m tests.unit.store.ledger_life ACT ...``.

``kill FOLDER LEDGER EVERY`` lives once for every line of the ledger's code, each time in a folder of its own,
and is killed by SIGKILL when it comes to that line; ``spend FILE RUN LIMIT`` spends until it is refused.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tacit.privacy.ledger import Budget, BudgetExceeded, Mark, Reserved
from tacit.store.ledger import Ledger, Reservation
from tests.unit.privacy.ledger.chains import POPULATION, rho_accountant, spend

STEPS = 2
OUT = "released.txt"
_WATCHED = ("/tacit/store/ledger", "/tacit/privacy/ledger/", "/ledger_life.py")


class ChargesNever(Ledger):
    """A broken ledger: it forgets to charge."""

    def reserve(self, population: str, spend: Reserved, **options: Any) -> Reservation:
        mark = self.book(population).mark
        return Reservation(population=population, mark=mark, is_reused=False, allowance=None)

    def release(self, reservation: Reservation) -> None: ...


class ChargesLate(Ledger):
    """A broken ledger: it charges when the release is noted."""

    def reserve(self, population: str, spend: Reserved, **options: Any) -> Reservation:
        self.asked = spend, options
        nowhere = Mark(sequence=0, sha256="0" * 64)
        return Reservation(population=population, mark=nowhere, is_reused=False, allowance=None)

    def release(self, reservation: Reservation) -> None:
        spend, options = self.asked
        super().release(super().reserve(reservation.population, spend, **options))


LEDGERS = {kind.__name__: kind for kind in (Ledger, ChargesNever, ChargesLate)}


def live(folder: Path, kind: type[Ledger] = Ledger) -> None:
    """Release some sums, and write down each one that has left."""
    with kind(folder / "ledger.db") as ledger:
        allowance = None
        for step in range(STEPS):
            reservation = ledger.reserve(
                POPULATION,
                spend(step),
                accountant=rho_accountant,
                limit=Budget(epsilon=9.0, delta=1e-6),
                allowance=allowance,
                wanted=STEPS - step,
            )
            publish(folder, step)
            ledger.release(reservation)
            allowance = reservation.allowance


def publish(folder: Path, step: int) -> None:
    """Let a sum leave the trust boundary."""
    handle = os.open(folder / OUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{step}\n".encode())
    os.close(handle)


def published(folder: Path) -> list[int]:
    """What has left so far."""
    path = folder / OUT
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class Killer:
    """Kills this process when it comes to the ``last``th line of the ledger's code."""

    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self, frame: FrameType, event: str, _: object) -> "Killer | None":
        if not any(part in frame.f_code.co_filename for part in _WATCHED):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def kill_everywhere(place: Path, kind: type[Ledger], every: int) -> int:
    """Live in a new folder for each line, and die there; return how many lines a whole life has."""
    line = every
    while True:
        folder = place / f"{line:05d}"
        folder.mkdir()
        child = os.fork()
        if not child:
            sys.settrace(Killer(line))
            live(folder, kind)
            os._exit(0)
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            return line
        line += every


def spend_all(file: Path, run: str, limit: float) -> int:
    """Reserve until the population's budget is reached; return how often that was possible."""
    allowance = None
    with Ledger(file) as ledger:
        for step in range(int(limit)):
            try:
                reservation = ledger.reserve(
                    POPULATION,
                    spend(step, run=run),
                    accountant=rho_accountant,
                    allowance=allowance,
                    wanted=int(limit),
                )
            except BudgetExceeded:
                return step
            ledger.release(reservation)
            allowance = reservation.allowance
    return -1


if __name__ == "__main__":
    act, place, *rest = sys.argv[1:]
    if act == "kill":
        result = kill_everywhere(Path(place), LEDGERS[rest[0]], int(rest[1]))
    else:
        result = spend_all(Path(place), rest[0], float(rest[1]))
    sys.stdout.write(json.dumps(result))
