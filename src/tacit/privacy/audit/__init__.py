"""Lower bounds on epsilon: what canaries, guesses and repeated runs say against a claim."""

from tacit.privacy.audit.bounds import Bound, canary_bounds, record_bound
from tacit.privacy.audit.canaries import Canaries, RunScores, blind_scores, exposure, strategy_of
from tacit.privacy.audit.claim import Claim, claim_of, no_claim, record_epsilon
from tacit.privacy.audit.guesses import Guesses, guess
from tacit.privacy.audit.likeness import Likeness, closest, likeness
from tacit.privacy.audit.many_runs import clopper_pearson, many_runs_epsilon, many_runs_mu
from tacit.privacy.audit.mechanism import audit_mechanism
from tacit.privacy.audit.noise import NoiseSeen, noise_seen
from tacit.privacy.audit.one_run import one_run_epsilon, one_run_mu
from tacit.privacy.audit.roc import RARE, Roc, roc

__all__ = [
    "RARE",
    "Bound",
    "Canaries",
    "Claim",
    "Guesses",
    "Likeness",
    "NoiseSeen",
    "Roc",
    "RunScores",
    "audit_mechanism",
    "blind_scores",
    "canary_bounds",
    "claim_of",
    "clopper_pearson",
    "closest",
    "exposure",
    "guess",
    "likeness",
    "many_runs_epsilon",
    "many_runs_mu",
    "no_claim",
    "noise_seen",
    "one_run_epsilon",
    "one_run_mu",
    "record_bound",
    "record_epsilon",
    "roc",
    "strategy_of",
]
