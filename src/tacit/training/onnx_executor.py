"""The executor of exported programs that needs no PyTorch: one client after the other."""

import traceback
from collections.abc import Sequence

from tacit.core.layout import ROOM, Layout, Vector, empty_rows
from tacit.core.local import LocalSGD
from tacit.core.spec import UpdateSpec
from tacit.core.terms import LocalTerms
from tacit.training.executor import ClientWork, Failure, Trained
from tacit.training.packing import pack
from tacit.training.program import Program
from tacit.training.program_runner import ProgramRunner


class OnnxExecutor:
    """Trains clients one by one with a program that was exported from the task.

    Args:
        program: The program of kind ``"step"``, already checked.
        layout: The layout of the task's model.
        local: Settings of local training.
        terms: What the algorithm adds to the local step.
        seed: The job's seed.

    Raises:
        UnsupportedError: The program was exported for another model or for other settings.
    """

    def __init__(
        self, program: Program, layout: Layout, local: LocalSGD, terms: LocalTerms, seed: int
    ) -> None:
        self._runner = ProgramRunner(program, layout, local, terms, seed)

    @property
    def spec(self) -> UpdateSpec:
        return self._runner.spec

    def train(self, vector: Vector, group: Sequence[ClientWork]) -> Trained:
        return train_one_by_one(self._runner, vector, group)


def train_one_by_one(runner: ProgramRunner, vector: Vector, group: Sequence[ClientWork]) -> Trained:
    """Train every client by itself, so that one that raises fails alone."""
    rows = empty_rows(len(group), runner.spec.size)
    done: list[ClientWork] = []
    failures: dict[str, Failure] = {}
    for work in group:
        place = slice(len(done), len(done) + 1)
        if not len(work.examples):
            failures[work.client] = Failure("no data")
            continue
        try:
            runner.run(vector, pack([runner.fitted(work) or work], runner.local), rows[place])
        except MemoryError:
            raise  # this machine's trouble, not the client's
        except Exception as error:  # noqa: BLE001 - whatever a program makes of a client's data fails alone
            failures[work.client] = Failure(f"raised {type(error).__name__}", traceback.format_exc())
            continue
        done.append(work)
    clients = tuple(work.client for work in done)
    sizes = tuple(len(work.examples) for work in done)
    return Trained(clients, rows[: len(done)], sizes, failures, room=ROOM)
