"""What an audit has found: a value that a report draws and a file keeps."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tacit.core.examples import Array
from tacit.privacy.audit import Bound, Claim, Likeness, Roc

Word = Literal["held", "refuted", "none"]


@dataclass(frozen=True)
class Picture:
    """One example and what attackers make of its update.

    Attributes:
        original: The example's input.
        before: What the update gives away.
        after: What is left of it after clipping and noise, in what the round releases.
        likeness_before: How close the first comes.
        likeness_after: How close the second comes.
        method: How the update was inverted.
    """

    original: Array
    before: Array
    after: Array
    likeness_before: Likeness
    likeness_after: Likeness
    method: str


@dataclass(frozen=True)
class CanaryScores:
    """The scores of canaries, to be drawn.

    Attributes:
        included: Of those that were included.
        left_out: Of those that were not.
        is_noiseless: Whether nothing hides them.
    """

    included: tuple[float, ...]
    left_out: tuple[float, ...]
    is_noiseless: bool


@dataclass(frozen=True)
class Findings:
    """What an audit has found.

    Attributes:
        job: The job's name.
        privacy: What the job says about itself, in words.
        claim: What it claims, for the audited rounds.
        confidence: Probability with which all bounds from canaries hold together; that from records
            holds with the same by itself.
        rounds: How many rounds were audited.
        runs: How often they were played.
        canaries: How many canaries there were in each run.
        trained: Whether the other clients trained.
        bounds: The lower bounds.
        scores: The canaries' scores; None if there were no canaries.
        membership: How well records are recognised; None if that was not tried.
        pictures: Inverted updates.
        left_out: What was not tried, and why.
        seconds: How long it took.
    """

    job: str
    privacy: str
    claim: Claim
    confidence: float
    rounds: int
    runs: int
    canaries: int
    trained: bool
    bounds: tuple[Bound, ...]
    scores: CanaryScores | None
    membership: Roc | None
    pictures: tuple[Picture, ...]
    left_out: tuple[str, ...]
    seconds: float

    @property
    def refuting(self) -> tuple[Bound, ...]:
        """The bounds that the claim cannot live with."""
        return tuple(bound for bound in self.bounds if bound.refutes(self.claim))

    @property
    def verdict(self) -> Word:
        """Whether the claim was refuted, held, or was never made."""
        if not self.claim.is_private:
            return "none"
        return "refuted" if self.refuting else "held"

    @property
    def highest(self) -> Bound | None:
        """The highest lower bound on what canaries show; None if there is none."""
        found = [bound for bound in self.bounds if bound.method != "records"]
        return max(found, key=lambda bound: bound.epsilon, default=None)

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as the JSON object that ``--json`` prints; null is an epsilon without limit."""
        claim = self.claim
        return {
            "job": self.job,
            "privacy": self.privacy,
            "verdict": self.verdict,
            "claimed": {
                "epsilon": _finite(claim.epsilon),
                "delta": claim.delta,
                "unit": claim.unit,
                "trust": claim.trust if claim.is_private else None,
                "adjacency": claim.adjacency if claim.is_private else None,
                "noise_multiplier": claim.noise_multiplier,
                "record_epsilon": _finite(claim.record_epsilon),
            },
            "bounds": [self._plain(bound) for bound in self.bounds],
            "confidence": self.confidence,
            "rounds": self.rounds,
            "runs": self.runs,
            "canaries": self.canaries,
            "trained": self.trained,
            "membership": None if self.membership is None else _membership(self.membership),
            "inversion": [_inversion(picture) for picture in self.pictures],
            "left_out": list(self.left_out),
            "seconds": self.seconds,
        }

    def _plain(self, bound: Bound) -> dict[str, Any]:
        return {
            "method": bound.method,
            "epsilon": _finite(bound.epsilon),
            "confidence": bound.confidence,
            "assumes": "gaussian noise" if bound.is_gaussian else "nothing",
            "detail": bound.detail,
            "refutes": bound.refutes(self.claim),
        }


def _membership(roc: Roc) -> dict[str, Any]:
    plain = asdict(roc)
    del plain["points"]
    return plain


def _inversion(picture: Picture) -> dict[str, Any]:
    return {
        "method": picture.method,
        "before": {name: _finite(value) for name, value in asdict(picture.likeness_before).items()},
        "after": {name: _finite(value) for name, value in asdict(picture.likeness_after).items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
