"""From the scores of canaries to lower bounds on epsilon, to be held against what was claimed."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tacit.privacy.audit.canaries import Exposure, RunScores, blind_scores, exposure, repeated_steps
from tacit.privacy.audit.claim import Claim
from tacit.privacy.audit.guesses import Coins, Floats, Guesses, guess, planned
from tacit.privacy.audit.many_runs import many_runs_epsilon, many_runs_mu
from tacit.privacy.audit.noise import noise_seen
from tacit.privacy.audit.one_run import one_run_epsilon, one_run_mu

FEW_RUNS = 16
"""With fewer runs than this, bounds from many runs say nothing and are left out."""
Method = Literal[
    "one_run", "one_run_gaussian", "many_runs", "many_runs_gaussian", "noise", "repeated_noise", "records"
]


@dataclass(frozen=True)
class Bound:
    """A lower bound on the epsilon that a mechanism really has, at the claim's delta.

    Attributes:
        method: How it was found.
        epsilon: With the stated confidence the true epsilon is at least this.
        confidence: Probability with which the bound holds.
        detail: What it was computed from, in words.
    """

    method: Method
    epsilon: float
    confidence: float
    detail: str

    @property
    def is_gaussian(self) -> bool:
        """Whether it takes for granted that the noise is Gaussian and everything but its size as claimed."""
        return self.method in ("one_run_gaussian", "many_runs_gaussian", "noise")

    def refutes(self, claim: Claim) -> bool:
        """Tell whether the claim cannot be true, if the bound holds."""
        return self.epsilon > (claim.record_epsilon if self.method == "records" else claim.epsilon)


def canary_bounds(runs: Sequence[RunScores], claim: Claim, confidence: float) -> tuple[Bound, ...]:
    """Return every lower bound that runs with canaries allow; all of them hold together with that confidence.

    Several runs count as one with more canaries, since each coin moves its own run alone. Bounds that take
    Gaussian noise for granted bound the noise multiplier, and ask the claim what follows from it.
    """
    found = _Canaries.of(runs, claim)
    tried: dict[Method, Callable[[float], tuple[float, str]]] = {"one_run": found.one_run}
    if claim.noise_multiplier is not None:
        tried |= {"one_run_gaussian": found.one_run_gaussian, "noise": found.noise}
    if len(runs) >= FEW_RUNS:
        tried["many_runs"] = found.many_runs
        if claim.noise_multiplier is not None:
            tried["many_runs_gaussian"] = found.many_runs_gaussian
    each = 1 - (1 - confidence) / len(tried)
    bounds = tuple(Bound(method, *_split(bound(each), each)) for method, bound in tried.items())
    return (*bounds, *_absent(runs, claim), *_repeated(runs, claim))


def _absent(runs: Sequence[RunScores], claim: Claim) -> Iterator[Bound]:
    # Where noise is claimed to be Gaussian the canaries' own estimate says so already.
    if claim.noise_multiplier is None and all(run.is_noiseless for run in runs):
        told = "nothing is released in directions that nobody uses: there is no noise"
        yield Bound("noise", math.inf, 1.0, told)


def _repeated(runs: Sequence[RunScores], claim: Claim) -> Iterator[Bound]:
    for run in runs if claim.noise_multiplier is not None else ():
        steps = repeated_steps(run, claim.strategy)
        if steps is not None:
            told = f"steps {steps[0] + 1} and {steps[1] + 1} have the same noise: their difference has none"
            yield Bound("repeated_noise", math.inf, 1.0, told)
            return


def record_bound(scores: Floats, included: Coins, delta: float, confidence: float) -> Bound:
    """Return the lower bound that follows from records of which each was trained on if its coin said so."""

    def worth(guesses: Guesses) -> float:
        return one_run_epsilon(guesses, delta, confidence)

    plan = planned(len(scores), mu=1.0, bound=worth)
    made = guess(scores, included, plan.made, plan.canaries)
    return Bound("records", worth(made), confidence, _told(made))


@dataclass(frozen=True)
class _Canaries:
    """All canaries of all runs, and the one in each run that many-run bounds look at."""

    claim: Claim
    open: Exposure
    blind: Floats
    coins: Coins
    chosen: Exposure
    chosen_blind: Floats
    chosen_coins: Coins

    @classmethod
    def of(cls, runs: Sequence[RunScores], claim: Claim) -> "_Canaries":
        exposures = [exposure(run, claim.strategy) for run in runs]
        exposures = [one for one in exposures if len(one.scores)]
        blind = [blind_scores(run) for run in runs]
        return cls(
            claim,
            _joined(exposures),
            np.concatenate(blind),
            np.concatenate([run.included for run in runs]),
            _joined([_most_exposed(one) for one in exposures]),
            np.array([scores[0] for scores in blind]),
            np.array([run.included[0] for run in runs]),
        )

    def one_run(self, confidence: float) -> tuple[float, str]:
        def worth(guesses: Guesses) -> float:
            return one_run_epsilon(guesses, self.claim.delta, confidence)

        hidden = self.claim.hides_participation
        scores, coins = (self.blind, self.coins) if hidden else (self.open.scores, self.open.included)
        made = self._guess(scores, coins, 1.0 if hidden else self._mean_weight, worth)
        return (worth(made) if made else 0.0), _told(made)

    def one_run_gaussian(self, confidence: float) -> tuple[float, str]:
        def worth(guesses: Guesses) -> float:
            return one_run_mu(guesses, confidence)

        scores, coins = self.open.scores, self.open.included
        made = self._guess(scores, coins, self._mean_weight, worth, all_of_them=True)
        return self._epsilon(_over(self.open.weights, worth(made) if made else 0.0)), _told(made)

    def noise(self, confidence: float) -> tuple[float, str]:
        seen = noise_seen(self.open, confidence)
        return self._epsilon(seen.most), f"noise multiplier {seen.estimate:.4g}, at most {seen.most:.4g}"

    def many_runs(self, confidence: float) -> tuple[float, str]:
        hidden = self.claim.hides_participation
        scores = self.chosen_blind if hidden else self.chosen.scores
        coins = self.chosen_coins if hidden else self.chosen.included
        bound = many_runs_epsilon(scores[coins], scores[~coins], self.claim.delta, confidence)
        return bound, f"{coins.sum()} runs with a canary, {(~coins).sum()} without"

    def many_runs_gaussian(self, confidence: float) -> tuple[float, str]:
        scores, coins = self.chosen.scores, self.chosen.included
        mu = many_runs_mu(scores[coins], scores[~coins], confidence)
        told = f"{coins.sum()} runs with a canary, {(~coins).sum()} without"
        return self._epsilon(_over(self.chosen.weights, mu)), told

    @property
    def _mean_weight(self) -> float:
        return float(np.mean(self.open.weights)) if len(self.open.weights) else 0.0

    def _guess(
        self,
        scores: Floats,
        coins: Coins,
        weight: float,
        worth: Callable[[Guesses], float],
        *,
        all_of_them: bool = False,
    ) -> Guesses | None:
        if not len(scores):
            return None
        noise = self.claim.noise_multiplier
        mu = None if noise is None else weight / noise
        plan = planned(len(scores), mu, worth, all_of_them=all_of_them)
        return guess(scores, coins, plan.made, plan.canaries)

    def _epsilon(self, noise_multiplier: float) -> float:
        if math.isinf(noise_multiplier):
            return 0.0
        return self.claim.epsilon_at(noise_multiplier) if noise_multiplier > 0 else math.inf


def _over(weights: Floats, mu: float) -> float:
    """Return the noise multiplier under which the most exposed canary has that mu."""
    return float(np.max(weights)) / mu if mu > 0 else math.inf


def _most_exposed(found: Exposure) -> Exposure:
    """Return the canary that took part most; that says nothing about its coin."""
    place = [int(np.argmax(found.weights))]
    return Exposure(found.scores[place], found.weights[place], found.included[place])


def _joined(exposures: Sequence[Exposure]) -> Exposure:
    if not exposures:
        return Exposure(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.bool_))
    columns = zip(*((one.scores, one.weights, one.included) for one in exposures), strict=True)
    return Exposure(*(np.concatenate(column) for column in columns))


def _told(guesses: Guesses | None) -> str:
    if guesses is None:
        return "no canary took part"
    return f"{guesses.correct} of {guesses.made} guesses right, about {guesses.canaries} coins"


def _split(found: tuple[float, str], confidence: float) -> tuple[float, float, str]:
    return found[0], confidence, found[1]
