"""What a private run does to a cohort's sum before anybody sees it, and what it remembers for that."""

import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from tacit.codec import WITHIN, Codec
from tacit.codec.adaptive_clip import REACH
from tacit.core.errors import LocalProtocolError, PlanError
from tacit.core.rule import Grid, IntegerTotal, Partial
from tacit.privacy import AdaptiveClipping, PrivacyPlan
from tacit.privacy.mechanisms import BandedSquareRoot, Separation
from tacit.privacy.noise import (
    FreshNoise,
    Noise,
    NoiseKeys,
    NoiseLane,
    PastKeys,
    PastVectors,
    SeededKeys,
    SystemKeys,
    add_noise,
    check_lanes,
    lanes_of,
)
from tacit.privacy.noise.add import COARSEST_BITS
from tacit.round.record import PrivacyRecord

_SEED_BITS = 128


@dataclass(frozen=True)
class PrivacyState:
    """What a private run must remember between two rounds.

    Attributes:
        step: How many steps were released.
        key: The key of the next step's noise: with it a round that a crash has cut off is repeated to the
            bit, and releases nothing new.
        cohort_seed: Seed of the draw of cohorts, where it is a secret of the server; None: the job's.
        clipping_bound: The bound of the next round, where it moves; else None.
        past: The keys, or vectors, from which the next step's noise follows.
        took_part: For each client the last step, counted from 0, for which it has sent something; kept only
            where clients have to keep apart, and as long as it bars them.
    """

    step: int = 0
    key: bytes = field(default=b"", repr=False)
    cohort_seed: int | None = field(default=None, repr=False)
    clipping_bound: float | None = None
    past: PastKeys | PastVectors = field(default_factory=PastKeys)
    took_part: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Released:
    """A cohort's sum as it may be seen.

    Attributes:
        partial: The sum with its noise.
        state: What is to be remembered from now on.
    """

    partial: Partial
    state: PrivacyState


class Release:
    """Adds a private run's noise; nothing but its result leaves the server.

    Args:
        plan: The privacy plan.
        codec: What the clients send.
        grid: The grid of the sum.
        keys: Where the noise's keys come from.

    Raises:
        PlanError: What is sent has a segment that nothing bounds (T182), or the grid does not suit the noise
            (T180, T181).
    """

    def __init__(self, plan: PrivacyPlan, codec: Codec, grid: Grid, keys: NoiseKeys) -> None:
        self.plan, self._codec, self._grid, self._keys = plan, codec, grid, keys
        self._separation = Separation(min_separation=plan.min_separation)
        self._clipping = plan.privacy.clipping
        self._is_local = plan.privacy.trust == "local"
        self._stretch = 1.0 if self._is_local else _longest(codec) / _declared(plan)
        if not self._is_local:
            check_lanes(self._lanes(self._first_std), self._largest_draw)

    def first(self) -> PrivacyState:
        """Return what there is to remember before the first round."""
        is_vectors = isinstance(self.plan.privacy.mechanism, BandedSquareRoot)
        return PrivacyState(
            key=self._keys.key(0, "update"),
            cohort_seed=secrets.randbits(_SEED_BITS) if self.plan.privacy.randomness == "system" else None,
            clipping_bound=self._clipping.first_bound if self._clipping.is_adaptive else None,
            past=PastVectors() if is_vectors else PastKeys(),
        )

    def noise_std(self, state: PrivacyState) -> float:
        """Return the standard deviation (scale) of a fresh draw of noise in the next round.

        Of the sum's noise; under local trust, of what each client adds.
        """
        if state.clipping_bound is None:
            return self._first_std
        return self.plan.noise_std(state.clipping_bound * self._stretch)

    @cached_property
    def _first_std(self) -> float:
        return self.plan.noise_std(self._clipping.first_bound * self._stretch)

    def release(self, partial: Partial, state: PrivacyState) -> Released:
        """Add the next step's noise to a sum; ``partial`` is left alone.

        Raises:
            LocalProtocolError: All steps that were accounted for are released.
        """
        after = self._stepped(state)
        if self._is_local:  # the clients have added it
            return Released(partial, after)
        if state.step >= self.plan.sampling.rounds:
            raise LocalProtocolError(
                "T512", f"all {self.plan.sampling.rounds} steps that were accounted for are released"
            )
        past, noise = self._draw(state)
        total = partial.total.copy()
        add_noise(total, self._lanes(self.noise_std(state)), noise)
        bound = None if state.clipping_bound is None else self._moved(state.clipping_bound, total)
        return Released(Partial(total, partial.clients), replace(after, past=past, clipping_bound=bound))

    def abandon(self, state: PrivacyState) -> PrivacyState:
        """Return what is to be remembered when a round was abandoned and its sum is not looked at.

        Under local trust what a client sends is released as it leaves it: the step is spent in vain.
        """
        return self._stepped(state) if self._is_local else state

    def record(self, number: int, before: PrivacyState) -> PrivacyRecord:
        """Return what a round has spent that released, or lost, the step after ``before``."""
        step = before.step + 1
        return PrivacyRecord(
            round=number,
            step=step,
            event=self.plan.charge(step),
            epsilon=self.epsilon_along(step),
            noise_std=self.noise_std(before),
            clipping_bound=before.clipping_bound or self._clipping.first_bound,
        )

    def renewed(self, state: PrivacyState) -> PrivacyState:
        """Return the state with another key for the next step.

        Where something of the step may have been released already, the same noise over another sum would
        show the difference of the two sums, bare.
        """
        return replace(state, key=self._keys.key(state.step, "update"))

    def epsilon_along(self, step: int) -> float:
        """Return what so many steps have spent, rounded up to the next point of the plan's curve."""
        return next((value for at, value in self._curve if at >= step), self.plan.epsilon)

    @cached_property
    def _curve(self) -> tuple[tuple[int, float], ...]:
        return self.plan.curve()

    def note(self, clients: Iterable[str], state: PrivacyState) -> PrivacyState:
        """Remember that updates of these clients have left them, whatever becomes of the round."""
        if self.plan.min_separation == 1:
            return state
        allows = self._separation.allows
        barred = {client: last for client, last in state.took_part.items() if not allows(state.step, last)}
        return replace(state, took_part={**barred, **dict.fromkeys(clients, state.step)})

    def _stepped(self, state: PrivacyState) -> PrivacyState:
        return replace(state, step=state.step + 1, key=self._keys.key(state.step + 1, "update"))

    def _draw(self, state: PrivacyState) -> tuple[PastKeys | PastVectors, Noise]:
        """Return what the next step will need of the past, and this step's noise."""
        mechanism, separation = self.plan.privacy.mechanism, self.plan.min_separation
        if isinstance(state.past, PastVectors):
            assert isinstance(mechanism, BandedSquareRoot)
            past = state.past.advance(state.key, self._codec.sent.size, mechanism, separation)
            return past, past.noise
        kept = mechanism.kept_keys(separation)
        keys = state.past.advance(state.key, kept)
        # The next step brings a key of its own, and so needs one less of these: what is not kept cannot leak.
        return PastKeys(keys.keys[: kept - 1]), keys.noise_for_step(mechanism, separation)

    def _lanes(self, scale: float) -> tuple[NoiseLane, ...]:
        """Give each segment its noise: ``scale``, and the bits of an adaptive clip their own."""
        bits = self.plan.bit_noise or 0.0
        return lanes_of(self._grid, [bits if name == WITHIN else scale for name in self._codec.sent.names])

    def _moved(self, bound: float, total: IntegerTotal) -> float:
        """Return the next round's bound: ``bound * exp(-rate * (share - quantile))``, as far as it may go.

        The share of updates within the bound is what the noisy sum of centred bits says of it, over the
        public constant (Andrew et al. 2021, section 2.2).
        """
        clipping = self._clipping
        assert isinstance(clipping, AdaptiveClipping)
        place = self._codec.sent.slice(WITHIN)
        lane = self._grid.lanes[self._codec.sent.names.index(WITHIN)]
        bits = float(total[place][0]) * lane.step
        share = min(1.0, max(0.0, 0.5 + bits / self.plan.denominator))
        moved = bound * math.exp(-clipping.learning_rate * (share - clipping.quantile))
        least, most = self._range
        return min(most, max(least, moved))

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The bounds an adaptive clip may move between: those it declares, and that the grid has room for."""
        first = self._clipping.first_bound
        noise = self._first_std / first
        named = zip(self._codec.sent.names, self._grid.lanes, strict=True)
        steps = [lane.step for name, lane in named if name != WITHIN]
        finest = max(steps) * 2.0**COARSEST_BITS / noise
        widest = min(steps) * 2.0**61 / (noise * self._largest_draw)  # the noise has half of int64
        return max(first / REACH, finest), min(first * REACH, widest)

    @cached_property
    def _largest_draw(self) -> float:
        """No coordinate of any step's noise is larger, before it is scaled."""
        mechanism, plan = self.plan.privacy.mechanism, self.plan
        last = plan.sampling.rounds - 1 if mechanism.is_correlated else 0
        weights = abs(mechanism.weights(last, plan.min_separation)).sum()
        return float(FreshNoise((b"",), distribution=mechanism.distribution).largest * weights)


def _longest(codec: Codec) -> float:
    """Return the norm that is declared for what is sent, the bit of an adaptive clip left out."""
    bounds = [segment.l2_bound for segment in codec.sent.segments if segment.name != WITHIN]
    if None in bounds:
        raise PlanError("T182", "nothing bounds a part of what clients send", fix="Clip every segment of it.")
    return math.hypot(*(bound or 0.0 for bound in bounds))


def _declared(plan: PrivacyPlan) -> float:
    """Return the norm that the clip alone declares; a stage after it may make updates longer."""
    clipping = plan.privacy.clipping
    return clipping.first_bound * (REACH if clipping.is_adaptive else 1.0)


def keys_of(plan: PrivacyPlan, seed: int) -> NoiseKeys:
    """Return where the keys of a run's noise come from; ``seed`` is the job's, for seeded noise alone."""
    return SystemKeys() if plan.privacy.randomness == "system" else SeededKeys(seed)
