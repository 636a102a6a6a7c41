"""What a private run spends: charged in its ledger before a round, settled after it."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tacit.core.events import PrivacyEvent
from tacit.core.part import encode
from tacit.core.privacy import Adjacency
from tacit.data import Population
from tacit.job import Plan
from tacit.privacy import PrivacyPlan
from tacit.privacy.ledger import Allowance, Budget, BudgetExceeded, Head, Reserved
from tacit.round import Run
from tacit.sim.machine import machine, versions
from tacit.store.ledger import LEDGER, Ledger, Reservation
from tacit.store.run_folder import RunFolder

_SLACK = 1 + 1e-6  # the plan's own epsilon fits its own limit, whichever way the accountant adds up
_LEAST = 1e-9  # epsilon can be so small that it is reckoned as zero, which is no limit


class Spending:
    """Keeps a private run's ledger: reserve before the round, release after it.

    A simulated run has a ledger of its own, in its run folder; its population bears the job's name. What a
    client itself has made noisy counts from the moment it leaves the client: under local trust a charge is
    never taken back, and a round that is played again is charged again, as its noise is new.

    Args:
        plan: The job and what follows from it.
        private: What is promised.
        folder: The run folder.
        is_steady: Whether clients' data is the same whenever it is asked for.

    Raises:
        StoreError: The ledger cannot be used.
    """

    def __init__(self, plan: Plan, private: PrivacyPlan, folder: RunFolder, *, is_steady: bool) -> None:
        self._job, self._private = plan.job.name, private
        self._ledger = Ledger(folder.path / LEDGER)
        settings = msgspec.json.encode(encode(plan.job), order="deterministic")
        self._surroundings = _surroundings(folder)
        self._plan_sha256 = hashlib.sha256(settings + self._surroundings).hexdigest()
        limit = max(private.epsilon * _SLACK, _LEAST)
        self._limit = Budget(epsilon=limit, delta=private.privacy.delta)
        self._is_local = private.privacy.trust == "local"
        self._is_steady = is_steady
        facts = [entry.fact for entry in self._ledger.entries(self._job)]
        spends = [fact for fact in facts if isinstance(fact, Reserved)]
        self._tried = {spend.step: spend.inputs_sha256 for spend in spends}
        # A retry may add up other data, or in another order; then earlier charges do not cover it.
        # Also after an orderly stop: a second Ctrl-C ends a run anywhere, and leaves the same record.
        self._may_differ = bool(spends) and (not is_steady or spends[-1].plan_sha256 != self._plan_sha256)
        self._allowance: Allowance | None = None
        self._open: Reservation | None = None

    @property
    def head(self) -> Head:
        """How far the ledger has come."""
        return self._ledger.head(self._job)

    def reconcile(self, known: Head | None) -> None:
        """Charge for what the ledger has lost since it had this head.

        Raises:
            StoreError: Its chain is broken.
        """
        if known is not None:
            self._ledger.reconcile(self._job, [known])

    def reserve(self, run: Run) -> None:
        """Charge the next step, durably, before its round begins.

        Raises:
            BudgetExceeded: It does not fit.
            StoreError: The ledger cannot be written.
        """
        state, rounds = run.state.privacy, self._private.sampling.rounds
        assert state is not None
        if state.step >= rounds:  # an event that covers several steps covers no more than these
            what = f"all {rounds} steps that were accounted for are spent"
            raise BudgetExceeded("T341", what, where=f"population {self._job}", fix="Start another run.")
        event = self._private.charge(state.step + 1)
        if event is None and self._may_differ:
            run.renew_noise()
            event = self._private.whole_run_event or self._private.event
        self._may_differ = False
        if event is None:
            return
        self._open = self._ledger.reserve(
            self._job,
            self._spend(run, state.step + 1, event),
            accountant=_epsilon,
            limit=self._limit,
            allowance=self._allowance,
            wanted=self._private.charges(rounds) - self._private.charges(state.step),
        )
        self._allowance = self._open.allowance

    def settle(self, *, is_released: bool) -> None:
        """Note what became of the step that was charged last.

        Raises:
            StoreError: The ledger cannot be written.
        """
        reservation, self._open = self._open, None
        if reservation is None:
            return
        if is_released or self._is_local:
            self._ledger.release(reservation)
        else:
            self._ledger.abandon(reservation)
            self._allowance = None

    def epsilon(self, steps: int) -> float | None:
        """Return what was charged, where that is not what so many released steps cost."""
        charged = self._ledger.spent(self._job)
        if dict(charged.events) == dict(self._private.spent(steps)):
            return None
        return charged.epsilon(_epsilon, self._private.privacy.delta)

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()

    def _inputs(self, run: Run, step: int) -> str:
        """Return the digest of all that the step's released numbers follow from, the noise included.

        The same model, cohort, data, executor and noise release the same numbers: after a crash that is no
        second release.
        """
        assert run.state.privacy is not None
        inputs = hashlib.sha256(run.state.vector.tobytes())
        inputs.update(f"{step}:{run.state.round}:{run.cohort_seed}:".encode() + run.state.privacy.key)
        inputs.update(self._surroundings)
        if self._private.privacy.randomness == "system" and (self._is_local or not self._is_steady):
            inputs.update(secrets.token_bytes(32))  # clients' noise, or their data, may be other
        return inputs.hexdigest()

    def _spend(self, run: Run, step: int, event: PrivacyEvent) -> Reserved:
        inputs = self._inputs(run, step)
        if self._tried.get(step, inputs) != inputs:
            run.renew_noise()
            inputs = self._inputs(run, step)
        self._tried[step] = inputs
        return Reserved(
            job=self._job,
            run=self._job,
            step=step,
            inputs_sha256=inputs,
            plan_sha256=self._plan_sha256,
            unit=self._private.privacy.unit,
            adjacency=self._private.adjacency,
            event=event,
        )


@dataclass(frozen=True)
class NoSpending:
    """Nothing is promised, so nothing is spent."""

    head: None = None

    def reconcile(self, known: Head | None) -> None: ...
    def reserve(self, run: Run) -> None: ...
    def settle(self, *, is_released: bool) -> None: ...
    def epsilon(self, steps: int) -> None: ...
    def close(self) -> None: ...


def spending_of(plan: Plan, population: Population, folder: RunFolder) -> Spending | NoSpending:
    """Return what keeps the account of a run."""
    if plan.private is None:
        return NoSpending()
    return Spending(plan, plan.private, folder, is_steady=population.is_steady)


def _surroundings(folder: RunFolder) -> bytes:
    """Return what else a sum's last bits follow from: executor, libraries, machine, and whose data it is."""
    info = folder.info()
    facts = (info.executor, info.group, info.program_sha256, info.code_sha256, info.sizes_sha256)
    return repr((facts, sorted(versions().items()), machine())).encode()


def _epsilon(events: Mapping[PrivacyEvent, int], delta: float, adjacency: Adjacency) -> float:
    from tacit.privacy.accounting import epsilon  # late: it takes a while to import

    return epsilon(events, delta, adjacency)
