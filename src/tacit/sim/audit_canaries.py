"""Runs of a job in which some clients are canaries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tacit.core.examples import Array
from tacit.core.layout import Rows, Vector
from tacit.core.randomness import generator
from tacit.core.spec import COORDINATE_LIMIT, UpdateSpec
from tacit.job import Plan
from tacit.privacy.audit import Canaries, RunScores
from tacit.privacy.audit.guesses import Coins
from tacit.round import RoundDevice
from tacit.round.messages import Assignment, AssignmentReceived, SendUpdates, TrainingDone
from tacit.sim.audit_rounds import Stage, play
from tacit.training.executor import Trained
from tacit.training.flat import PARAMETERS

_HARD = 128.0  # how many times too long a canary's update is, so that the clip is tried, too


def canary_run(stage: Stage, canaries: int, rounds: int, number: int) -> RunScores:
    """Play one run of a job in which some clients are canaries, each included by a fair coin.

    Canaries take the places of clients, so that cohort, plan and claim are the job's own. When asked for an
    update, an included one sends its direction, far longer than the clip lets through; one that is left
    out sends zeros. The others send zeros, too, unless they are to train: a promise of privacy holds
    whatever they send, and what is known does not hide anybody.

    Args:
        stage: What to play with.
        canaries: How many.
        rounds: How many rounds are to be committed.
        number: The number of the run; each has draws of its own.

    Raises:
        RunError: The rounds could not be played.
    """
    stage = stage.seeded("run", number)
    cast, scores = _Cast.of(stage, canaries), list[Array]()
    cohorts = play(stage, cast.row_of, lambda update: scores.append(cast.directions.scores(update)), rounds)
    taken = np.array([[client in cohort for client in cast.ids] for cohort in cohorts], dtype=np.bool_)
    seen = np.array(scores)
    return RunScores(seen[:, :canaries], seen[:, canaries:], taken, cast.included)


def local_run(stage: Stage, canaries: int, number: int) -> RunScores:
    """Look at what canaries' own devices send in one round, where every client adds the noise itself.

    Args:
        stage: What to play with.
        canaries: How many.
        number: The number of the run; each has draws of its own.
    """
    stage = stage.seeded("run", number)
    cast = _Cast.of(stage, canaries)
    rows = {client: cast.directions.row(index, cast.length_of(index)) for client, index in cast.ids.items()}
    seen = np.array([cast.directions.scores(row) for row in sent(stage, rows)])
    own = np.diagonal(seen)[None, :]
    return RunScores(own, seen[:, canaries:].reshape(1, -1), np.ones((1, canaries), np.bool_), cast.included)


def sent(stage: Stage, rows: Mapping[str, Vector]) -> Rows:
    """Return what devices send of these updates' parameters, in order: clipped, with their own noise."""
    plan, ids = stage.plan, tuple(rows)
    group = np.zeros((len(ids), plan.codec.spec.size), dtype=np.float32)
    group[:, plan.codec.spec.slice(PARAMETERS)] = list(rows.values())
    device = RoundDevice(plan.codec, plan.job.seed)
    device.receive(AssignmentReceived(Assignment(plan.job.name, 1, None, partial_work=False), ids))
    (effect,) = device.receive(TrainingDone(Trained(ids, group, (1,) * len(ids))))
    assert isinstance(effect, SendUpdates)
    return np.asarray(effect.rows[:, plan.codec.sent.slice(PARAMETERS)], dtype=np.float32)


@dataclass(frozen=True)
class _Cast:
    """Who the canaries of a run are, and what they send.

    Attributes:
        ids: The index of each canary, by client.
        directions: A direction for each, and as many that nobody uses.
        included: The coins.
        length: L2 norm of an included canary's update.
    """

    ids: Mapping[str, int]
    directions: Canaries
    included: Coins
    length: float

    @classmethod
    def of(cls, stage: Stage, canaries: int) -> "_Cast":
        rng, population = generator(stage.plan.job.seed, "canaries"), stage.population
        directions = Canaries(2 * canaries, stage.parameters, rng)
        places = np.sort(rng.choice(len(population), canaries, replace=False)).tolist()
        ids = {population.ids[place]: index for index, place in enumerate(places)}
        return cls(ids, directions, rng.random(canaries) < 0.5, row_length(stage.plan, directions.width))

    def row_of(self, client: str) -> Vector | None:
        index = self.ids.get(client)
        if index is None:
            return None
        return self.directions.row(index, self.length_of(index))

    def length_of(self, index: int) -> float:
        """Return the L2 norm of what a canary sends: nothing, if it is left out."""
        return self.length if self.included[index] else 0.0


def row_length(plan: Plan, width: int) -> float:
    """Return the L2 norm of a canary's update: far beyond the clip, and within what a device lets pass.

    Args:
        plan: The plan.
        width: On how many coordinates the update is spread.
    """
    specs: Sequence[UpdateSpec] = plan.codec.chain.specs(plan.codec.spec)
    bounds = [spec.segment(PARAMETERS).l2_bound for spec in specs]
    bound = next((bound for bound in bounds if bound is not None), None)
    return min(1.0 if bound is None else _HARD * bound, COORDINATE_LIMIT * float(np.sqrt(width)) / 2)
