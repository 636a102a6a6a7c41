"""Which executor trains, and how many clients at a time: timed on a few clients, checked against torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from tacit.core.layout import Vector
from tacit.core.local import LocalSGD
from tacit.core.randomness import seed64
from tacit.training.agreement import Agreement, compare
from tacit.training.executor import Choice, ClientWork, Executor, UnsupportedError

Clock = Callable[[], float]
"""Tells the time in seconds; only differences count."""

_CALL_S = 0.1  # about how long torch would take for one client of a timed call
_FEWEST_STEPS, _MOST_STEPS = 2, 20  # of each client in it
_REPEATED = 3
_HOPELESS = 5.0  # times as slow as the best so far: not timed again
_ABOUT_AS_CHEAP = 1.03
_CONTENDS = 1.2  # times the cost of the cheapest: timed again before one is chosen
_RUN_OFFS = 12  # or as many as the budget allows, at least one
_WORTH_A_LARGER_GROUP = 0.98  # of the smaller one's time
_WORTH_LEAVING_TORCH = 0.9


@dataclass(frozen=True)
class Pace:
    """How fast an executor trains.

    Attributes:
        executor: Its name.
        group: Clients at a time.
        step_s: Seconds for one step of one client.
    """

    executor: str
    group: int
    step_s: float


@dataclass
class Calibration:
    """Times executors on a few clients, and chooses the fastest that computes what torch does.

    Attributes:
        reference: The plain torch executor.
        vector: The global model, shape (layout.size,).
        sample: Clients of a cohort in the order of groups, the costliest first; at least one.
        local: Settings of local training.
        group: The group of the torch executor, which trains one client after the other whatever it is.
        stretch: From a group's size to how much longer a round takes for being cut so: larger groups are
            harder to spread over processes. Only ratios count.
        clock: Tells the time; best that of this process's own work.
        budget_s: About how long to time; what has begun is finished.
        checked: On how many clients of the sample the executors are compared.
        paces: What was measured; torch first.
        refused: Executors that cannot be chosen, and why.
    """

    reference: Executor
    vector: Vector
    sample: Sequence[ClientWork]
    local: LocalSGD
    group: int
    stretch: Callable[[int], float]
    clock: Clock
    budget_s: float = 2.0
    checked: int = 8
    paces: list[Pace] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    _executors: dict[str, Executor] = field(init=False, default_factory=dict)
    _references: dict[str, Executor] = field(init=False, default_factory=dict)
    _agreements: dict[Pace, Agreement] = field(init=False, default_factory=dict)
    _steps: int = field(init=False, default=_FEWEST_STEPS)
    _spent_s: float = field(init=False, default=0.0)

    def time_torch(self) -> float:
        """Time the reference and return its seconds for one step."""
        first = self._timed(self.reference, 1)  # also warms up
        self._steps = int(np.clip(_CALL_S / max(first, 1e-9), _FEWEST_STEPS, _MOST_STEPS))
        step_s = min(first, self._timed(self.reference, 1))
        self.paces.append(Pace("torch", self.group, step_s))
        return step_s

    def try_out(
        self,
        name: str,
        build: Callable[[], Executor],
        groups: Sequence[int],
        reference: Callable[[], Executor] | None = None,
    ) -> None:
        """Time an executor with groups of these sizes, in ascending order, as long as larger ones are faster.

        One that cannot be built, or breaks, is refused with the reason. ``reference`` builds whom to compare
        it with where that is not the reference of all.
        """
        try:
            executor = self._executors[name] = build()
            self._references[name] = self.reference if reference is None else reference()
            self._time(name, executor, groups)
        except UnsupportedError as error:
            self.refused[name] = str(error)
        except Exception as error:  # noqa: BLE001 - a fast path that breaks is not taken
            self.refused[name] = f"raised {type(error).__name__}"

    @property
    def best_s(self) -> float:
        """Seconds for one step of the fastest so far."""
        return min(self._eligible(), key=self._cost).step_s

    def choose(self) -> Choice:
        """Return the fastest executor that agrees with torch, and say why."""
        self._run_off()
        torch_s = self.paces[0].step_s
        while True:
            best = self._best()
            if best.executor == "torch":
                return Choice(executor="torch", group=best.group, reason=self._why_torch())
            agreement = self._checked(best)
            if not agreement.objection:
                times = f"{torch_s / best.step_s:.2g} times as fast as torch"
                reason = f"{times}, equal to {agreement.error:.0e}{self._beside()}"
                return Choice(executor=best.executor, group=best.group, reason=reason)
            self.refused[best.executor] = agreement.objection

    def check(self, executor: Executor, group: int, reference: Executor | None = None) -> Agreement:
        """Compare an executor with the reference on clients spread over the sample, whatever their pace."""
        count = min(self.checked, len(self.sample))
        places = np.linspace(0, len(self.sample) - 1, count) if count > 1 else [len(self.sample) // 2]
        works = [self.sample[int(place)] for place in places]
        try:
            return compare(executor, reference or self.reference, self.vector, works, self.local, group)
        except Exception as error:  # noqa: BLE001 - a fast path that breaks is not taken
            return Agreement(objection=f"raised {type(error).__name__}")

    def _checked(self, pace: Pace) -> Agreement:
        if pace not in self._agreements:
            name = pace.executor
            self._agreements[pace] = self.check(self._executors[name], pace.group, self._references[name])
        return self._agreements[pace]

    def _time(self, name: str, executor: Executor, groups: Sequence[int]) -> None:
        best: Pace | None = None
        disappointments = 0  # one size may be unlucky, or too small to show what the next one gains
        for group in groups:
            if best is not None and self._spent_s > self.budget_s:
                return
            try:
                pace = Pace(name, group, self._repeatedly_timed(executor, group))
            except MemoryError:
                if best is None:
                    raise
                return  # smaller groups fit
            self.paces.append(pace)  # even if it is no faster, it may be easier to spread
            if best is None or pace.step_s <= best.step_s * _WORTH_A_LARGER_GROUP:
                best, disappointments = pace, 0
            elif disappointments:
                return
            else:
                disappointments = 1

    def _repeatedly_timed(self, executor: Executor, group: int) -> float:
        """Return the best of a few times; an executor's first call of a shape may prepare something."""
        hopeless = _HOPELESS * min(pace.step_s for pace in self.paces)
        found = self._timed(executor, group)
        for _ in range(_REPEATED - 1):
            if found > hopeless:
                break
            began = self._spent_s
            found = min(found, self._timed(executor, group))
            if self._spent_s - began > self.budget_s / 4:  # long enough to be believed
                break
        return found

    def _timed(self, executor: Executor, group: int) -> float:
        """Train the middle clients of the sample, and return the seconds for each step."""
        start = (len(self.sample) - min(group, len(self.sample))) // 2
        works = [replace(w, max_steps=self._steps_of(w)) for w in self.sample[start : start + group]]
        began = self.clock()
        executor.train(self.vector, works)
        seconds = self.clock() - began
        self._spent_s += seconds
        return seconds / sum(max(1, self._steps_of(w)) for w in works)

    def _steps_of(self, work: ClientWork) -> int:
        total = self.local.total_steps(len(work.examples))
        return min(total, self._steps, total if work.max_steps is None else work.max_steps)

    def _run_off(self) -> None:
        """Time those once more, in turns, that come near the cheapest: each with the machine as it is now.

        Within a try-out each group size has its own moment, and what else the machine does then would decide.
        """
        limit = _CONTENDS * min(map(self._cost, self._eligible()))
        contenders = [pace for pace in self._eligible() if self._cost(pace) <= limit]
        if len(contenders) == 1:
            return
        began = self._spent_s
        again = dict.fromkeys(contenders, math.inf)
        for _ in range(_RUN_OFFS):
            for pace in contenders:
                executor = self._executors.get(pace.executor, self.reference)
                again[pace] = min(again[pace], self._timed(executor, pace.group))
            if self._spent_s - began > self.budget_s:
                break
        self.paces = [replace(pace, step_s=again.get(pace, pace.step_s)) for pace in self.paces]

    def _best(self) -> Pace:
        """Return the cheapest; of its group sizes the smallest that is about as cheap.

        What little a larger group gains here it may lose where several processes share a cache.
        """
        eligible = self._eligible()
        cheapest = min(eligible, key=self._cost)
        enough = self._cost(cheapest) * _ABOUT_AS_CHEAP
        alike = (p for p in eligible if p.executor == cheapest.executor and self._cost(p) <= enough)
        return min(alike, key=lambda pace: pace.group)

    def _eligible(self) -> list[Pace]:
        """Return torch, and whoever is so much faster that it pays to leave it."""
        enough = self._cost(self.paces[0]) * _WORTH_LEAVING_TORCH
        others = [p for p in self.paces[1:] if p.executor not in self.refused and self._cost(p) < enough]
        return [self.paces[0], *others]

    def _cost(self, pace: Pace) -> float:
        return pace.step_s * self.stretch(pace.group)

    def _why_torch(self) -> str:
        slower = {pace.executor for pace in self.paces[1:]} - set(self.refused)
        if slower:
            return f"no slower than {' and '.join(sorted(slower))}{self._beside()}"
        return f"no other can train this{self._beside()}"

    def _beside(self) -> str:
        names: dict[str, list[str]] = {}
        for name, why in self.refused.items():
            names.setdefault(why, []).append(name)
        said = "; ".join(f"{' and '.join(several)}: {why}" for why, several in names.items())
        return f" ({said})" if said else ""


def draws_random_numbers(reference: Executor, vector: Vector, work: ClientWork, seed: int) -> bool:
    """Tell whether the model draws random numbers while it trains, as dropout does.

    Then a program cannot repeat what the reference does: it is given other numbers.

    Args:
        reference: The plain torch executor.
        vector: The global model, shape (layout.size,).
        work: Any client.
        seed: The job's seed.
    """
    reference.train(vector, [replace(work, max_steps=1)])
    after = torch.get_rng_state()
    torch.default_generator.manual_seed(seed64(seed, work.round, "client", work.client, "torch"))
    return not torch.equal(after, torch.get_rng_state())
