"""What the sites of a record-level run spend: each is charged in a ledger of its own, round after round."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

import msgspec

from tacit.core.errors import ConfigError, StoreError
from tacit.core.events import PrivacyEvent
from tacit.core.part import decode, encode
from tacit.core.privacy import Adjacency
from tacit.data import Population
from tacit.job import Plan
from tacit.job.sites import Sites
from tacit.privacy import Guarantee
from tacit.privacy.ledger import Allowance, Budget, Head, Reserved
from tacit.round import PrivacyRecord, RoundRecord, Run
from tacit.round.server import drawn
from tacit.sim.spending import NoSpending, Spending, spending_of
from tacit.store.files import remove_halves, storing, write_whole
from tacit.store.ledger import LEDGER, Ledger, Reservation
from tacit.store.run_folder import RunFolder

HEADS = "ledger_heads.json"
"""How far each site's ledger had come, beside the ledgers: what is lost of them is found, and charged."""
_SLACK = 1 + 1e-6  # a site's own epsilon fits its own limit, whichever way the accountant adds up
_LONGEST_NAME = 256


class SiteSpending:
    """Keeps the accounts of a run's sites: each one that is invited is charged before the round.

    A deployed site keeps its ledger to itself. In a simulation all of them lie in one file in the run folder,
    each a chain of its own, of population ``JOB/SITE``. A site stays charged for a round whatever becomes of
    it: an update that has left the site is a release, whether or not it was counted. Only what a run that
    ends in order has not released it takes back.

    Args:
        plan: The job and what follows from it.
        sites: What its sites do for their records.
        ids: The sites' names.
        folder: The run folder.

    Raises:
        StoreError: The ledgers cannot be used.
    """

    head: None = None
    """No single one: ``HEADS`` has those of all sites."""

    def __init__(self, plan: Plan, sites: Sites, ids: Sequence[str], folder: RunFolder) -> None:
        self._plan, self._sites, self._ids = plan, sites, ids
        self._heads_path = folder.path / HEADS
        remove_halves(folder.path, (HEADS,))
        self._ledger = Ledger(folder.path / LEDGER)
        settings = msgspec.json.encode(encode(plan.job), order="deterministic")
        self._plan_sha256 = hashlib.sha256(settings).hexdigest()
        self._heads: dict[str, Head] = {}
        self._charged: Counter[int] = Counter()  # rounds of each site, by its position
        self._allowances: dict[int, Allowance] = {}
        self._open: dict[int, Reservation] = {}
        self._last: tuple[int, ...] = ()

    def reconcile(self, known: Head | None) -> None:
        """Charge each site for what its ledger has lost since the run folder noted its head.

        Raises:
            StoreError: A chain is broken, or the noted heads cannot be read.
        """
        self._heads = self._noted_heads()
        for population, head in self._heads.items():
            self._ledger.reconcile(population, [head])
        opened = set(self._ledger.populations())
        for position in range(len(self._ids)):
            if (name := self._name(position)) in opened:
                self._charged[position] = sum(charge.count for charge in self._ledger.book(name).charges)

    def reserve(self, run: Run) -> None:
        """Charge every site that the next round invites, durably, before it begins.

        Raises:
            BudgetExceeded: One of them cannot afford it; nobody is charged then.
            StoreError: A ledger cannot be written.
        """
        self._last = ()
        try:
            for position in self._invited(run):
                self._open[position] = self._reserved(run, position)
        except BaseException:
            self._take_back()
            raise

    def settle(self, *, is_released: bool) -> None:
        """Note that the updates of the sites that were charged last have left them.

        Args:
            is_released: Whether the round counts, which makes no difference to a site.

        Raises:
            StoreError: A ledger cannot be written.
        """
        for position, reservation in tuple(self._open.items()):
            self._ledger.release(reservation)
            del self._open[position]
            self._charged[position] += not reservation.is_reused
            self._heads[self._name(position)] = self._ledger.head(self._name(position))
            self._last = (*self._last, position)
        if self._last:
            write_whole(self._heads_path, msgspec.json.encode(encode(self._heads)))

    def noted(self, record: RoundRecord) -> PrivacyRecord:
        """Return what a round spent: the charge of that of its sites which spends most."""
        charged = {self._ids[position] for position in self._last}
        assert charged.issuperset(record.answered), "who has sent anything was charged for it"
        if not self._last:
            return PrivacyRecord(round=record.round)
        sizes = {int(self._plan.sizes[position]) for position in self._last}
        size = max(sorted(sizes), key=lambda size: self._sites.plans[size].epsilon)
        level, taken = self._sites.levels[size], self._taken()
        return PrivacyRecord(
            round=record.round,
            step=max(self._charged.values()),
            event=self._sites.charge(size),
            epsilon=self._sites.epsilon_along(taken),
            noise_std=level.noise_std,
            clipping_bound=level.clipping_bound,
        )

    def statement(self) -> Guarantee:
        """Return what is promised to the records of every site, after what it has released so far."""
        return self._sites.statement(self._taken())

    def close(self) -> None:
        """Take back what was charged and not released, and close the ledgers."""
        with suppress(StoreError):  # then it stays charged
            self._take_back()
        self._ledger.close()

    def _invited(self, run: Run) -> Iterator[int]:
        """Yield the positions of the sites that the next round invites and that have anything to protect."""
        plan = self._plan
        invited = drawn(plan.job.cohort, plan.population, run.cohort_seed, run.state.round + 1)
        return (position for position in invited if plan.sizes[position] > 0)

    def _reserved(self, run: Run, position: int) -> Reservation:
        plan = self._sites.plans[int(self._plan.sizes[position])]
        made = self._ledger.reserve(
            self._name(position),
            self._spend(run, position),
            accountant=_epsilon,
            limit=Budget(epsilon=plan.epsilon * _SLACK, delta=plan.privacy.delta),
            allowance=self._allowances.get(position),
            wanted=max(1, self._sites.rounds - self._charged[position]),
        )
        if made.allowance is not None:
            self._allowances[position] = made.allowance
        return made

    def _spend(self, run: Run, position: int) -> Reserved:
        size = int(self._plan.sizes[position])
        inputs = hashlib.sha256(run.state.vector.tobytes())
        inputs.update(f"{run.state.round + 1}:{self._plan.job.seed}:{size}:".encode())
        if self._sites.privacy.randomness == "system":
            # Noise that nobody can draw again: a round that is repeated is a release of its own.
            inputs.update(secrets.token_bytes(32))
        return Reserved(
            job=self._plan.job.name,
            run=self._plan.job.name,
            step=run.state.round + 1,
            inputs_sha256=inputs.hexdigest(),
            plan_sha256=self._plan_sha256,
            unit="record",
            adjacency=self._sites.plans[size].adjacency,
            event=self._sites.charge(size),
        )

    def _take_back(self) -> None:
        while self._open:
            position, reservation = self._open.popitem()
            self._allowances.pop(position, None)
            self._ledger.abandon(reservation)

    def _taken(self) -> dict[int, int]:
        """Return the most rounds that a site of each size was charged for."""
        taken: dict[int, int] = {}
        for position, rounds in self._charged.items():
            size = int(self._plan.sizes[position])
            taken[size] = max(rounds, taken.get(size, 0))
        return taken

    def _name(self, position: int) -> str:
        name = f"{self._plan.job.name}/{self._ids[position]}"
        if len(name) <= _LONGEST_NAME:
            return name
        return f"{self._plan.job.name}/{hashlib.sha256(name.encode()).hexdigest()}"

    def _noted_heads(self) -> dict[str, Head]:
        if not self._heads_path.exists():
            return {}
        with storing(self._heads_path):
            text = self._heads_path.read_bytes()
        try:
            return decode(dict[str, Head], msgspec.json.decode(text))
        except (msgspec.DecodeError, ConfigError) as error:
            what, fix = f"the noted heads cannot be read: {error}", "Restore the file from a copy."
            raise StoreError("T406", what, where=str(self._heads_path), fix=fix) from error


def keeper_of(plan: Plan, population: Population, folder: RunFolder) -> Spending | NoSpending | SiteSpending:
    """Return what keeps the account, or the accounts, of a run."""
    if plan.sites is not None:
        return SiteSpending(plan, plan.sites, population.ids, folder)
    return spending_of(plan, population, folder)


def _epsilon(events: Mapping[PrivacyEvent, int], delta: float, adjacency: Adjacency) -> float:
    return _known_epsilon(frozenset(events.items()), delta, adjacency)


@lru_cache(maxsize=1024)
def _known_epsilon(events: frozenset[tuple[PrivacyEvent, int]], delta: float, adjacency: Adjacency) -> float:
    """Return epsilon; sites of equal size and equal past are looked at once."""
    from tacit.privacy.accounting import epsilon  # late: it takes a while to import

    return epsilon(dict(events), delta, adjacency)
