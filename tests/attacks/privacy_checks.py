"""Whether a private run does what it claims: each check raises AssertionError where protection is weaker.

They look at what comes out of the machines, and hold it against the events that the run charges: none asks
the plan how much noise there should be. Where all is well a check fails with a probability of 1e-6.
"""

import itertools
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import special, stats

import tacit
from tacit.core.errors import RemoteProtocolError
from tacit.core.events import (
    CorrelatedEvent,
    GaussianEvent,
    LaplaceEvent,
    PoissonSampledEvent,
    PrivacyEvent,
    TruncatedPoissonSampledEvent,
)
from tacit.core.layout import Vector
from tacit.core.rule import Partial
from tacit.job import Plan
from tacit.privacy.ledger import Abandoned, Reserved
from tacit.round import RoundDevice
from tacit.round.messages import Assignment, AssignmentReceived, TrainingDone
from tacit.round.release import PrivacyState, Release, Released
from tacit.store.ledger import LEDGER, Ledger
from tacit.training import Trained
from tests.rounds import worlds
from tests.rounds.private_runs import Machines, Played, play, private

P = 1e-6
"""Probability with which a check fails although all is well."""
BIT = "within_bound"
Floats = npt.NDArray[np.float64]


# --- noise -------------------------------------------------------------------------------------


def check_noise(plan: Plan, answers: Callable[[str, int], bool] = lambda client, number: True) -> None:
    """Check: updates of zero come out as noise, as large in every part as the charged event says.

    With an adaptive clip the event stands for the update and the bit together: ``z^-2`` is the sum of both.
    """
    played = play(plan, answers=answers)
    assert len(played.released) == plan.job.rounds
    for released, spend in zip(played.released, played.spends, strict=True):
        assert spend.clipping_bound is not None
        assert spend.event is not None
        z = multiplier(spend.event)
        if plan.private is not None and plan.private.bit_noise is not None:
            z = (z**-2 - (2 * plan.private.bit_noise) ** -2) ** -0.5
        for part in parts(plan, released):
            assert_deviation(part, z * spend.clipping_bound, plan.job.privacy)


def check_bit_noise(plan: Plan, rounds: int = 600) -> None:
    """Check: the bits of an adaptive clip, all zero, come out with noise of their own, as the event says."""
    private = plan.private
    assert private is not None
    assert private.bit_noise is not None
    machines = Machines(plan, answers=lambda client, number: False)
    release, state = machines.run._release, machines.run.state.privacy  # noqa: SLF001 - a lane nobody sees
    assert release is not None
    assert state is not None
    empty, place = plan.rule.empty(plan.grid), plan.codec.sent.slice(BIT)
    noisy = [release.release(empty, replace(state, key=os.urandom(32))).partial.total for _ in range(rounds)]
    bits = np.array([plan.grid.to_float(total)[place][0] for total in noisy])
    update = private.noise_std(plan.job.privacy.clipping.first_bound)  # type: ignore[union-attr]
    z_update = update / plan.job.privacy.clipping.first_bound  # type: ignore[union-attr]
    assert private.event is not None
    z_bit = (multiplier(private.event) ** -2 - z_update**-2) ** -0.5
    assert_deviation(bits, z_bit / 2, plan.job.privacy)


def check_fresh_noise(make: Callable[[], Plan]) -> None:
    """Check: no draw has to do with another one: of another coordinate, round or run."""
    rows = np.stack([row for _ in range(2) for row in play(make()).released])
    size = rows.shape[1]
    for row in rows:
        assert len(np.unique(row)) > 0.9 * size, "coordinates share a draw"
        for lag in (1, 2, size // 2):
            assert_uncorrelated(row[:-lag], row[lag:])
        scaled = (row - row.mean()) / row.std()
        assert stats.kstest(scaled[:20_000], "norm").pvalue > P, "the noise is not normal"
    for i in range(len(rows)):
        for j in range(i):
            assert_uncorrelated(rows[i], rows[j])


def check_seeded_noise(make: Callable[[int], Plan]) -> None:
    """Check: seeded noise follows from the seed, the step and the coordinate, and from all three of them."""
    first, again, other = (play(make(seed)).released for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert_uncorrelated(first[0], other[0])
    assert_uncorrelated(first[0], first[1])


def check_correlated_noise(plan: Plan) -> None:
    """Check: a run's noise, multiplied by the strategy ``C``, is white, and as large as its one event says.

    Both ``C`` and its sensitivity are computed here by brute force.
    """
    played, privacy = play(plan), plan.job.privacy
    assert privacy is not None
    assert privacy.min_separation is not None
    noise = np.stack([released[plan.codec.sent.slice("parameters")] for released in played.released])
    (event,) = {spend.event for spend in played.spends if spend.event is not None}
    assert played.spends[0].event == event
    strategy = strategy_of(privacy.mechanism, len(noise), privacy.min_separation)
    sensitivity = brute_sensitivity(strategy, privacy.min_separation)
    white = strategy @ noise / (multiplier(event) * sensitivity * privacy.clipping.first_bound)
    for row in white:
        assert_deviation(row, 1.0, privacy)
        for part in np.array_split(row, 4):
            assert_deviation(part, 1.0, privacy)
    for a, b in itertools.combinations(white, 2):
        assert_uncorrelated(a, b)


def strategy_of(mechanism: Any, steps: int, min_separation: int) -> Floats:
    """Return the matrix ``C`` of a mechanism, shape (steps, steps), from the binomial series."""
    powers = np.arange(steps)
    root = np.where(powers % 2, -1.0, 1.0) * special.binom(-0.5, powers)  # of 1 / sqrt(1 - x)
    if mechanism.name == "banded_inverse":
        inverse = np.where(powers % 2, -1.0, 1.0) * special.binom(0.5, powers)
        inverse[mechanism.bands :] = 0
        return np.asarray(np.linalg.inv(_toeplitz(inverse)))
    root[mechanism.bands or min_separation :] = 0
    return _toeplitz(root)


def _toeplitz(column: Floats) -> Floats:
    row, col = np.indices((len(column), len(column)))
    return np.where(row >= col, column[np.abs(row - col)], 0.0)


def brute_sensitivity(strategy: Floats, min_separation: int) -> float:
    """Return the most that a client moves ``C S`` by, over all steps at which it may take part."""
    steps = len(strategy)
    return max(
        float(np.linalg.norm(strategy[:, list(taken)].sum(axis=1)))
        for count in range(1, math.ceil(steps / min_separation) + 1)
        for taken in itertools.combinations(range(steps), count)
        if all(b - a >= min_separation for a, b in itertools.pairwise(taken))
    )


def check_claim(plan: Plan) -> None:
    """Check: Gaussian releases cost at least what the closed form says (Balle & Wang 2018, theorem 8)."""
    private, played = plan.private, play(plan)
    assert private is not None
    charged = [spend.event for spend in played.spends if spend.event is not None]
    assert all(isinstance(event, GaussianEvent) for event in charged)
    moves = 2 if private.adjacency == "replace_one" else 1
    mu = moves * math.sqrt(sum(multiplier(event) ** -2 for event in charged))
    epsilon, law = private.epsilon, stats.norm()
    delta = law.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * law.cdf(-mu / 2 - epsilon / mu)
    assert delta <= private.privacy.delta * (1 + 1e-6), f"delta is {delta:.3g}"


def assert_deviation(draws: Floats, expected: float, privacy: Any) -> None:
    """Check the variance of draws around zero by a chi-square test (Laplace: by the normal law)."""
    ratio = float(np.mean((draws / expected) ** 2))
    if privacy.mechanism.distribution == "laplace":  # a scale: variance 2, fourth moment 24
        ratio /= 2
        low, high = stats.norm(1, math.sqrt(5 / len(draws))).ppf([P / 2, 1 - P / 2])
    else:
        low, high = stats.chi2(len(draws)).ppf([P / 2, 1 - P / 2]) / len(draws)
    assert low < ratio < high, f"variance is {ratio:.4f} of what was charged for"


def assert_uncorrelated(a: Floats, b: Floats) -> None:
    with np.errstate(invalid="ignore"):
        correlation = np.corrcoef(a, b)[0, 1]
    assert abs(correlation) < stats.norm.isf(P / 2) / math.sqrt(len(a)), f"correlation {correlation:.3f}"


def parts(plan: Plan, released: Floats) -> Iterator[Floats]:
    """Yield what a sum has of each tensor, and its eighths."""
    updates = released[plan.codec.sent.slice("parameters")]
    yield from (np.ravel(view) for view in plan.layout.views(updates, "parameters").values())  # type: ignore[misc]
    yield from np.array_split(updates, 8)


def multiplier(event: PrivacyEvent) -> float:
    """Return the noise multiplier of the one release that an event is about."""
    match event:
        case PoissonSampledEvent(event=inner) | TruncatedPoissonSampledEvent(event=inner):
            return multiplier(inner)
        case GaussianEvent(noise_multiplier=z) | LaplaceEvent(noise_multiplier=z):
            return z
        case CorrelatedEvent(noise_multiplier=z):
            return z
    raise AssertionError(event)


# --- sensitivity -------------------------------------------------------------------------------


def hostile(size: int, bound: float = 1.5) -> dict[str, Vector]:
    """Return what a client may come up with, its loss included, by name."""
    rng = np.random.default_rng(7)
    spike, late = np.zeros(size + 1), np.zeros(size + 1)
    spike[size // 2] = 1e30
    late[size - 1] = 900.0
    wide = np.append(rng.standard_normal(size), 1.0)
    made = {
        "small": wide * 1e-3,
        "flat": np.full(size + 1, 0.999 * bound / math.sqrt(size)),
        "just inside": wide / np.linalg.norm(wide[:-1]) * 0.999 * bound,
        "dense": np.full(size + 1, 1.0),
        "large": wide * 50,
        "far too large": wide * 1e6,
        "spike": spike,
        "late spike": late,
        "denormal": wide * 1e-41,
        "one denormal": np.where(wide > 1, 1e-45, 700.0),
        "nothing": np.zeros(size + 1),
        "not a number": np.where(wide > 1, np.nan, 0.1),
        "infinite": np.where(wide > 1, np.inf, 0.1),
        "minus infinite": np.where(wide < -1, -np.inf, 0.1),
        "a loss that is no number": np.append(wide[:-1], np.nan),
    }
    with np.errstate(over="ignore"):
        return {name: row.astype(np.float32) for name, row in made.items()}


def check_sensitivity(plan: Plan) -> None:
    """Check: whatever one client sends, it moves the sum by at most the bound, and the bits by a half.

    Its contribution is compared with none. Noise, cohort and everybody else are the same in both worlds.
    """
    start = Machines(plan).run.state.privacy
    bound = plan.job.privacy.clipping.first_bound  # type: ignore[union-attr]
    others = np.random.default_rng(3).standard_normal((plan.population, plan.parameters + 1)) / 10
    settings: dict[str, Any] = {"start": start, "examples": lambda client: 3 if client == "c0" else 1}
    without = play(plan, row_of=_rows(others), answers=lambda client, _: client != "c0", **settings)
    for name, row in hostile(plan.parameters, bound).items():
        with np.errstate(all="ignore"):
            found = play(plan, row_of=_rows(others, row), **settings)
        moved = differences(plan, found, without)
        assert len(moved) >= 1
        norm = np.abs(moved[0]).sum() if plan.job.privacy.mechanism.distribution == "laplace" else None  # type: ignore[union-attr]
        norm = np.linalg.norm(moved[0]) if norm is None else norm
        assert norm <= bound * (1 + 1e-9), f"{name}: moved by {norm:.6g} where the bound is {bound}"
        for bits in moved[1:]:
            assert np.abs(bits).max() <= 0.5, f"{name}: the bit moved by {bits}"
        # And the same of what is released, but for its rounding.
        seen = (found.means[0] - without.means[0]).astype(np.float64) * plan.private.denominator  # type: ignore[union-attr]
        assert np.linalg.norm(seen - moved[0]) <= 1e-3 * bound, f"{name}: more moved than the sum"


def check_dropouts(plan: Plan) -> None:
    """Check: however many vanish, one client more or less moves the mean by the bound over the constant."""
    start = Machines(plan).run.state.privacy
    bound = plan.job.privacy.clipping.first_bound  # type: ignore[union-attr]
    axis = np.zeros((plan.population, plan.parameters + 1))
    axis[:, 0] = bound
    there = {f"c{i}" for i in range(plan.population // 2)}
    row = -axis[0]
    some = play(plan, row_of=_rows(axis, row), answers=lambda client, _: client in there, start=start)
    fewer = play(plan, row_of=_rows(axis), answers=lambda client, _: client in there - {"c0"}, start=start)
    denominator = plan.job.cohort.expected(plan.population)
    moved = (some.means[0] - fewer.means[0]).astype(np.float64) * denominator
    assert np.linalg.norm(moved) <= bound * (1 + 1e-3), f"moved by {np.linalg.norm(moved):.4g}"
    for played, count in ((some, plan.population // 2 - 2), (fewer, plan.population // 2 - 1)):
        assert played.totals[0] is not None
        total = plan.grid.to_float(played.totals[0])
        np.testing.assert_allclose(total[0], bound * count, rtol=1e-5)


def differences(plan: Plan, a: Played, b: Played) -> list[Floats]:
    """Return by how much two runs' first sums differ before their noise, segment by segment."""
    assert a.totals[0] is not None
    assert b.totals[0] is not None
    moved = plan.grid.to_float(a.totals[0] - b.totals[0])
    return [moved[plan.codec.sent.slice(name)] for name in plan.codec.sent.names]


def check_nothing_else_leaves(plan: Plan) -> None:
    """Check: clients send their clipped parameters, and the bit of an adaptive clip: no metric, no weight.

    All that training has given is a loss: so they send zeros.
    """
    rows = np.zeros((plan.population, plan.parameters + 1))
    rows[:, -1] = 0.777
    played = play(plan, row_of=_rows(rows))
    width = plan.parameters + (plan.private is not None and plan.private.bit_noise is not None)
    assert played.sent
    for sent in (rows for round_ in played.sent for rows in round_):
        assert sent.shape[1] == width
        assert not sent[:, : plan.parameters].any()
    assert all(record.train_loss is None for record in played.rounds)


def _rows(rows: npt.NDArray[Any], first: Any = None) -> Callable[[str, int], Vector]:
    def row_of(client: str, number: int) -> Vector:
        index = int(client[1:])
        row = first if first is not None and index == 0 else rows[index]
        return np.asarray(row, dtype=np.float32)

    return row_of


# --- who takes part ----------------------------------------------------------------------------


def check_sampling(make: Callable[[int], Plan]) -> None:
    """Check: a sample that is claimed is drawn, at its rate, by coins of each client's own; all rounds count.

    Args:
        make: Plans the job for a population of that size, with many rounds.
    """
    plan = make(40)
    assert plan.private is not None
    event, played = plan.private.event, play(plan)
    sizes = np.array([len(record.invited) for record in played.rounds])
    if isinstance(event, PoissonSampledEvent | TruncatedPoissonSampledEvent):
        assert all(record.outcome == "committed" for record in played.rounds), "a small cohort shows"
        cap = getattr(event, "cap", 40)
        assert sizes.max() <= cap
        law = stats.binom(40, event.rate).pmf(np.arange(41))
        law[cap], law[cap + 1 :] = law[cap:].sum(), 0
        mean = float(law @ np.arange(41))
        spread = float(law @ (np.arange(41) - mean) ** 2)
        score = (sizes.mean() - mean) / math.sqrt(max(spread, 1e-12) / len(sizes))
        assert abs(score) < stats.norm.isf(P / 2), "the rate is not the accounted one"
        ratio = ((sizes - mean) ** 2).sum() / max(spread, 1e-12)
        low, high = stats.chi2(len(sizes)).ppf([P / 2, 1 - P / 2])
        assert (low < ratio < high) or spread < 1e-9, "the cohort's size is not that of a Poisson sample"
    if plan.private.adjacency == "add_remove":
        _check_nobody_makes_room(plan, played, make(11))


def _check_nobody_makes_room(large: Plan, played: Played, small: Plan) -> None:
    """Check: whoever else is there, a client is asked as often."""
    invited = [
        sum("c0" in record.invited for record in rounds) for rounds in (played.rounds, play(small).rounds)
    ]
    table = [[count, large.job.rounds - count] for count in invited]
    if all(count == large.job.rounds for count in invited):
        return
    assert stats.fisher_exact(table).pvalue > P, "one client's absence changes who else is asked"


def check_separation(plan: Plan, abandoned: Callable[[int], bool] = lambda number: number % 4 == 2) -> None:
    """Check: nobody is asked twice within the claimed distance, also where rounds are abandoned."""
    assert plan.private is not None
    claimed, step = plan.private.min_separation, 0
    played = play(plan, answers=lambda client, number: not abandoned(number), forgetful=True)
    steps = defaultdict[str, list[int]](list)
    for record in played.rounds:
        for client in record.invited:
            steps[client].append(step)
        step += record.outcome == "committed"
    assert any(record.outcome == "abandoned" for record in played.rounds)
    distances = [b - a for taken in steps.values() for a, b in itertools.pairwise(taken)]
    assert min(distances, default=claimed) >= claimed, f"a client came again after {min(distances)} steps"


def check_device_separation(plan: Plan) -> None:
    """Check: a device answers no step that is too near to the last one it answered."""
    assert plan.private is not None
    claimed = plan.private.min_separation
    device = RoundDevice(plan.codec, 0)

    def asked(number: int, step: int) -> bool:
        given = Assignment("small", number, None, True, None, step, claimed)
        try:
            device.receive(AssignmentReceived(given, ("c0",)))
        except RemoteProtocolError as error:
            if error.code != "T529":
                raise
            return False
        rows = np.zeros((1, plan.codec.spec.size), dtype=np.float32)
        device.receive(TrainingDone(Trained(("c0",), rows, (3,))))
        return True

    assert asked(1, 4)
    assert not asked(2, 4), "the same step, tried again"
    assert not asked(3, 4 + claimed - 1)
    assert not asked(4, 0), "a server that was put back"
    assert asked(5, 4 + claimed)


# --- what is charged ---------------------------------------------------------------------------


class Crash(BaseException):
    """The process ends here."""


def check_charged_before_release(folder: Path, at: int = 2) -> None:
    """Check: a run that dies the moment a sum has got its noise has charged for as many steps already.

    Args:
        folder: A place for the run.
        at: At which release it dies.
    """
    original, steps = Release.release, list[int]()

    def dies(self: Release, partial: Partial, state: PrivacyState) -> Released:
        released = original(self, partial, state)
        steps.append(released.state.step)
        if len(steps) == at:
            raise Crash
        return released

    job = worlds.job(privacy=private(), cohort=tacit.Poisson(rate=0.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "release", dies)
        with pytest.raises(Crash):
            tacit.run(job, worlds.population, folder=folder, executor="torch")
    assert len(charged(folder)) >= at, f"{at} steps were released and {len(charged(folder))} charged"


def charged(folder: Path) -> list[Reserved]:
    """Return every charge in a run's ledger that counts, one by one."""
    with Ledger(folder / LEDGER, read_only=True) as ledger:
        (population,) = ledger.populations() or ("",)
        facts = [entry.fact for entry in ledger.entries(population)]
    back = {fact.reservation for fact in facts if isinstance(fact, Abandoned)}
    numbered = enumerate(facts, start=1)
    return [fact for number, fact in numbered if isinstance(fact, Reserved) and number not in back]
