"""Audit a job: what its releases say about who took part, held against what it claims."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tacit.core.bounds import Count, Natural
from tacit.core.errors import PlanError, RunError
from tacit.core.part import Settings
from tacit.job import Job, Plan, PopulationLike, make_plan, model_seed
from tacit.privacy.audit import (
    Bound,
    Claim,
    Roc,
    RunScores,
    canary_bounds,
    claim_of,
    exposure,
    no_claim,
    record_bound,
    record_epsilon,
    roc,
)
from tacit.report.audit import render_audit_html
from tacit.report.audit_findings import CanaryScores, Findings, Picture
from tacit.report.words import amount
from tacit.sim.audit_canaries import canary_run, local_run
from tacit.sim.audit_pictures import pictures
from tacit.sim.audit_records import attack_records
from tacit.sim.audit_rounds import Stage
from tacit.sim.observer import Observer
from tacit.sim.populations import open_population
from tacit.store.files import storing, write_whole
from tacit.training.evaluate import Evaluator
from tacit.training.flat import build

FINDINGS, REPORT = "audit.json", "audit.html"
"""What an audit's folder holds, beside the runs it needed."""
_MOST_CANARIES = 500
_COINS, _MOST_RUNS = 200, 32
_DELTA = 1e-6  # at which bounds are stated where nothing is claimed
_DRAWN = 2000  # scores kept for the picture
Say = Callable[[str], None]
"""Is told what is being tried."""


class Effort(Settings, frozen=True):
    """How hard to try.

    Attributes:
        canaries: Canaries in each run; None: as many as fit, 500 at most.
        runs: How often rounds with canaries are played, with fresh coins; from 16 on, runs are compared, too.
            None: until there are 200 coins, 32 times at most.
        rounds: How many rounds to audit; None: all of the job.
        records: On how many records membership inference is tried; it takes two whole runs of the job.
            0: none.
        pictures: How many updates are inverted.
        steps: How long each inversion is optimised, where the input cannot be read off.
        train: Let clients that are no canaries train; by default they send zeros, which hides nothing.
        confidence: Probability with which the bounds hold.
    """

    canaries: Count | None = None
    runs: Count | None = None
    rounds: Count | None = None
    records: Natural = 200
    pictures: Natural = 4
    steps: Count = 300
    train: bool = False
    confidence: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.5 <= self.confidence < 1:
            what = f"a confidence of {self.confidence:g} is none"
            raise PlanError("T196", what, where="confidence", fix="Choose one of 0.5 or more, below 1.")


_USUAL = Effort()


@dataclass(frozen=True)
class AuditResult:
    """What an audit gave.

    Attributes:
        folder: Where it was written.
        findings: What was found.
    """

    folder: Path
    findings: Findings

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / REPORT

    def as_dict(self) -> dict[str, Any]:
        """Return what ``tacit audit --json`` prints."""
        return {**self.findings.as_dict(), "folder": str(self.folder), "report": str(self.report)}


def audit(
    job: Job,
    population: PopulationLike,
    *,
    effort: Effort = _USUAL,
    folder: Path | str | None = None,
    data: Path | str | None = None,
    observer: Observer | None = None,
    say: Say = lambda text: None,
) -> AuditResult:
    """Attack a job in simulation, and hold what its releases give away against what it claims.

    Canary clients give lower bounds on epsilon, membership inference says which records the final model was
    trained on, and single updates are inverted as they are and as they are released. The result's verdict is
    ``"refuted"`` if a lower bound is above the claim.

    Args:
        job: The job.
        population: What ``run`` takes.
        effort: How hard to try.
        folder: Where findings, report and runs are written; by default ``audits/NAME-DATE-TIME``.
        data: Where data files lie; by default ``TACIT_DATA`` or the user's cache.
        observer: Is told how the runs for membership inference go.
        say: Is told what is being tried.

    Raises:
        ConfigError: The job, or the audit, is wrong; nothing was started.
        DataError: The data is missing or does not fit.
        RunError: The job does not run.
        StoreError: The folder cannot be used.
    """
    from tacit.training.threads import borrowed_torch

    place = Path(folder) if folder is not None else _default_folder(job.name)
    if (place / FINDINGS).exists():
        raise PlanError("T198", "the folder holds an audit already", where=str(place), fix="Name another.")
    opened = open_population(population, None if data is None else Path(data))
    with borrowed_torch():
        model = build(job.task, model_seed(job))
        Evaluator(job.task, model)  # refuses a loss or a metric that nobody knows
        stage = Stage(make_plan(job, model.layout, opened.sizes), opened, model, train=effort.train)
        rounds = _rounds(job, effort)
        claim = claim_of_plan(stage.plan, rounds)
        return audit_stage(stage, claim, effort, place, observer=observer, say=say)


def claim_of_plan(plan: Plan, rounds: int) -> Claim:
    """Return what a plan claims for its first rounds; about records, for the whole job."""
    if plan.private is None or plan.guarantee is None:
        return no_claim(delta=min(_DELTA, 1 / (10 * plan.population)))
    if plan.sites is None:
        return claim_of(plan.private, rounds)
    said = plan.guarantee
    return Claim(
        epsilon=said.epsilon,
        delta=said.delta,
        unit=said.unit,
        trust=said.trust,
        adjacency=said.adjacency,
        record_epsilon=record_epsilon(plan.private),
    )


def audit_stage(
    stage: Stage,
    claim: Claim,
    effort: Effort,
    folder: Path,
    *,
    observer: Observer | None = None,
    say: Say = lambda text: None,
) -> AuditResult:
    """Audit a plan against a claim: ``audit`` for those who have both at hand.

    Args:
        stage: The plan, the population and the model.
        claim: What is claimed for the audited rounds.
        effort: How hard to try.
        folder: Where to write.
        observer: Is told how the runs for membership inference go.
        say: Is told what is being tried.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    findings = _Audit(stage, claim, effort, folder, observer, say).findings()
    write_whole(folder / FINDINGS, msgspec.json.format(msgspec.json.encode(findings.as_dict())) + b"\n")
    write_whole(folder / REPORT, render_audit_html(findings).encode())
    return AuditResult(folder, findings)


@dataclass
class _Audit:
    """One audit under way."""

    stage: Stage
    claim: Claim
    effort: Effort
    folder: Path
    observer: Observer | None
    say: Say
    left_out: list[str] = field(default_factory=list)

    def findings(self) -> Findings:
        """Try everything."""
        began, plan = time.monotonic(), self.stage.plan
        if plan.private is not None and plan.private.privacy.randomness == "seeded":
            self.left_out.append("taking off the noise: it comes from the seed, and whoever knows that can")
        runs = self._runs()
        inverted = self._pictures()  # before whole runs, which take long
        membership, records = self._records()
        bounds = canary_bounds(runs, self.claim, self.effort.confidence) if runs else ()
        return Findings(
            job=plan.job.name,
            privacy=plan.privacy,
            claim=self.claim,
            confidence=self.effort.confidence,
            rounds=_rounds(plan.job, self.effort),
            runs=len(runs),
            canaries=len(runs[0].included) if runs else 0,
            trained=self.effort.train,
            bounds=(*bounds, *records),
            scores=_drawn(runs, self.claim) if runs else None,
            membership=membership,
            pictures=inverted,
            left_out=tuple(self.left_out),
            seconds=time.monotonic() - began,
        )

    def _runs(self) -> list[RunScores]:
        if self.claim.unit == "record":
            self.left_out.append("canary clients: the promise is about records")
            return []
        canaries, rounds = self._canaries(), _rounds(self.stage.plan.job, self.effort)
        numbers = range(self.effort.runs or max(1, min(_MOST_RUNS, -(-_COINS // canaries))))
        self.say(f"{_canaries(canaries)}, {amount(rounds, 'round')}, {amount(len(numbers), 'time')}")
        if self.claim.trust == "local":  # one round of every device at a time, each with coins of its own
            devices = range(len(numbers) * min(rounds, _MOST_RUNS))
            return [local_run(self.stage, canaries, number) for number in devices]
        return [canary_run(self.stage, canaries, rounds, number) for number in numbers]

    def _canaries(self) -> int:
        most = min(len(self.stage.population), self.stage.parameters // 2)
        wanted = self.effort.canaries
        if wanted is None:
            return max(1, min(most, _MOST_CANARIES))
        if wanted > most:
            what = f"{wanted} canaries do not fit: {len(self.stage.population)} clients, "
            what += f"{self.stage.parameters} parameters"
            fix = f"At most {most}; more runs give more coins."
            raise PlanError("T197", what, where="canaries", fix=fix)
        return wanted

    def _pictures(self) -> tuple[Picture, ...]:
        if not self.effort.pictures:
            return ()
        if self.stage.plan.sites is not None:
            self.left_out.append("gradient inversion: noise is added while a site trains, not to its update")
            return ()
        self.say(f"inverting {self.effort.pictures} updates")
        try:
            return pictures(self.stage, self.effort.pictures, self.effort.steps)
        except RunError as error:
            self.left_out.append(error.what)
            return ()

    def _records(self) -> tuple[Roc | None, tuple[Bound, ...]]:
        if not self.effort.records:
            self.left_out.append("membership of records: not asked for")
            return None, ()
        if self.stage.model.is_local:
            self.left_out.append(
                "membership of records: buffers stay with the clients, so there is no one model"
            )
            return None, ()
        self.say(f"training twice, to ask the model about {self.effort.records} records")
        job, population = self.stage.plan.job, self.stage.population
        found = attack_records(job, population, self.effort.records, self.folder, self.observer)
        if found is None:
            self.left_out.append("membership of records: no client has two examples")
            return None, ()
        bound = record_bound(found.scores, found.included, self.claim.delta, self.effort.confidence)
        return roc(found.scores, found.included), (bound,)


def _drawn(runs: list[RunScores], claim: Claim) -> CanaryScores:
    """Return scores to draw: some of them, if there are many."""
    found = [exposure(run, claim.strategy) for run in runs]
    scores = np.concatenate([one.scores for one in found])[:_DRAWN]
    included = np.concatenate([one.included for one in found])[:_DRAWN]
    noiseless = all(run.is_noiseless for run in runs)
    return CanaryScores(tuple(scores[included].tolist()), tuple(scores[~included].tolist()), noiseless)


def _rounds(job: Job, effort: Effort) -> int:
    if effort.rounds is not None and effort.rounds > job.rounds:
        what = f"{effort.rounds} rounds of a job that has {job.rounds}"
        raise PlanError("T199", what, where="rounds", fix="Audit as many as the job has, or fewer.")
    return effort.rounds or job.rounds


def _canaries(count: int) -> str:
    return "1 canary" if count == 1 else f"{count} canaries"


def _default_folder(name: str) -> Path:
    stem = f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    candidates = (Path("audits") / (stem if not number else f"{stem}-{number}") for number in range(1000))
    return next(path for path in candidates if not path.exists())
