"""``tacit plan``: what a job would cost, or why it would be refused."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tacit.cli.options import AsJson, DataFolder, JobFile, Overrides, checked_data
from tacit.cli.output import Output, facts

if TYPE_CHECKING:
    from rich.table import Table

    from tacit.job import Plan, SecurePlan
    from tacit.job.sites import Sites
    from tacit.privacy import PrivacyPlan
    from tacit.report.forecast import NoiseForecast


def plan(job: JobFile, overrides: Overrides = [], data: DataFolder = None, as_json: AsJson = False) -> None:  # noqa: B006 - typer copies it
    """Check a job and price it; runs nothing.

    Shows parameters, bytes, memory, cohort and which privacy holds: what is promised to whom, epsilon along
    the run, how much noise there will be against the signal, and how sums are taken that show nobody's
    update. A job that would be refused is refused here,
    with the reason and what to do about it.

    [bold]Examples[/bold]

    tacit plan examples/digits.py
    tacit plan examples/digits.py --set cohort.count=50
    tacit plan examples/digits.py --json | jq .bytes_up_per_client
    """
    from tacit.job import load_job  # late: it imports torch
    from tacit.report.forecast import forecast_dict
    from tacit.sim import plan as plan_of

    folder = checked_data(data)
    loaded = load_job(job, overrides)
    made = plan_of(loaded.job, loaded.population, data=folder)
    planned = {**made.as_dict(), **forecast_dict(made)}
    output = Output(as_json)
    output.say(facts([*_rows(planned), *_privacy_rows(made), *_secure_rows(made)]))
    _say_curve(made, output)
    for warning in () if made.secure is None else made.secure.warnings:
        output.warn(warning)
    output.result(planned)


def _rows(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from tacit.report.words import amount, count, size

    empty = plan["clients_without_data"]
    yield "job", plan["job"]
    yield "parameters", count(plan["parameters"])
    yield (
        "population",
        f"{amount(plan['population'], 'client')}, {amount(plan['examples'], 'training example')}",
    )
    if empty:
        yield "", f"{amount(empty, 'client')} without any data"
    yield "cohort", f"{plan['cohort']:g} clients a round, {amount(plan['rounds'], 'round')}"
    yield "local steps", f"about {count(plan['steps_per_round'])} a round, all clients together"
    yield "up", f"{size(plan['bytes_up_per_client'])} per client and round"
    yield "down", f"{size(plan['bytes_down_per_client'])} per client and round"
    yield "server receives", f"at most {size(plan['bytes_up_per_round'])} a round"
    yield "memory", ", ".join(f"{size(mib * 2**20)} with {name}" for name, mib in plan["memory_mib"].items())
    yield "privacy", plan["privacy"]


# --- privacy ------------------------------------------------------------------------------------


def _privacy_rows(made: "Plan") -> Iterator[tuple[str, str]]:
    """Yield what is promised, and how much noise that takes."""
    from tacit.report.forecast import forecast
    from tacit.report.privacy_words import guarantee_rows

    noise = forecast(made)
    if made.private is None or made.guarantee is None or noise is None:
        return
    yield from guarantee_rows(made.guarantee)
    if made.sites is not None:
        yield "sites", _sites(made.sites)
        yield "noise", f"inside the site of {made.private.sampling.population} records, which spends most:"
    yield from _noise(made.private, noise)


def _say_curve(made: "Plan", output: Output) -> None:
    """Tell what is spent along the run, and whether the noise leaves anything to learn."""
    from tacit.report.forecast import forecast

    noise = forecast(made)
    if made.private is None or noise is None:
        return
    output.say("", _curve(made))
    if made.private.privacy.randomness == "seeded":
        output.warn("the noise follows from the job's seed: whoever knows it can take the noise away")
    if noise.drowns:
        output.warn(
            f"the noise will drown the signal: it is {noise.per_step:.3g} times as long as the longest mean "
            f"that the clients could agree on, and {noise.over_run:.2g} times when averaged over the run. "
            "More clients a round help most; then a larger epsilon, or a smaller model."
        )


def _noise(private: "PrivacyPlan", noise: "NoiseForecast") -> Iterator[tuple[str, str]]:
    clipping = private.privacy.clipping
    starts = "at first; it follows the clients' norms" if clipping.is_adaptive else "an update is no longer"
    mechanism = private.privacy.mechanism.name.replace("_", " ")
    yield "noise multiplier", f"{private.noise_multiplier:.4g}, {mechanism} noise"
    yield "clipping bound", f"{noise.clipping_bound:.4g}, {starts}"
    yield "denominator", f"{noise.denominator:g}, whoever answers"
    yield "noise on the sum", f"{noise.std:.4g} on each coordinate, standard deviation"
    yield "noise on the mean", f"{noise.mean_std:.4g} on each of {noise.coordinates:,} coordinates"
    ratios = f"{noise.per_step:.3g} a step, about {noise.over_run:.2g} over the run"
    yield "noise to signal", f"{ratios} (length of the noise over the longest that the mean can be)"


def _sites(sites: "Sites") -> str:
    """Say between what the sites lie."""
    sizes, levels = list(sites.plans), [level.noise_multiplier for level in sites.levels.values()]
    return (
        f"{min(sizes)} to {max(sizes)} records; noise multiplier {min(levels):.4g} to {max(levels):.4g}; "
        f"{sites.steps(min(sizes))} to {sites.steps(max(sizes))} steps a round, each with noise"
    )


def _curve(made: "Plan") -> "Table":
    """Return epsilon along the run, a column a round; never less than it is."""
    from rich.table import Table

    from tacit.privacy.guarantee import rounded_up
    from tacit.report.forecast import epsilon_by_round, few

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    points = few(epsilon_by_round(made))
    table.add_column("after round")
    for rounds, _ in points:
        table.add_column(f"{rounds:,}", justify="right")
    table.add_row("epsilon", *(rounded_up(value) for _, value in points))
    return table


# --- secure aggregation -------------------------------------------------------------------------


def _secure_rows(made: "Plan") -> Iterator[tuple[str, str]]:
    """Yield how the sums are taken, what that costs, and who is protected against whom."""
    secure = made.secure
    if secure is None:
        return
    yield from _group_rows(secure)
    yield from _cost_rows(secure)
    yield "the server", _server_sees(secure)
    yield "other clients", "see who takes part in their group, and nothing of anybody's update"
    yield "readers of the model", _readers_see(made)


def _group_rows(secure: "SecurePlan") -> Iterator[tuple[str, str]]:
    from tacit.report.words import amount

    parameters, threat = secure.parameters, secure.threat
    groups = "1 group" if secure.groups == 1 else f"up to {amount(secure.groups, 'group')}"
    largest, least = amount(secure.group, "client"), secure.min_cohort
    yield "secure aggregation", f"{groups} of at most {largest}; no sum of fewer than {least} is opened"
    k, t = parameters.neighbours, parameters.threshold
    each = "all others" if k == parameters.clients - 1 else "each"
    made_for = f"made for {threat.dropout:.0%} dropouts"
    yield "neighbours", f"k = {k} ({each}), t = {t} of them open a secret; {made_for}"


def _cost_rows(secure: "SecurePlan") -> Iterator[tuple[str, str]]:
    from tacit.report.words import size

    costs, keys = secure.costs, ", post-quantum keys" if secure.settings.post_quantum else ""
    up, down = size(costs.bytes_up), f"{size(costs.bytes_down)} down beside the model"
    yield "messages", f"{costs.messages} per client and round: {up} up, {down}{keys}"
    server_s = f"{costs.server_s * secure.groups:.2g} s for the server"
    yield "computing", f"about {costs.client_s:.2g} s per client and {server_s}, a round, on one core"
    yield "rounding", f"{secure.rounding:.1g} of the longest that the mean can be"


def _server_sees(secure: "SecurePlan") -> str:
    threat = secure.threat
    trusted = (
        "even if it lies"
        if threat.mode == "malicious"
        else "as long as it follows the protocol (semi_honest)"
    )
    fellows = threat.corrupt_members(secure.group)
    return (
        f"sees sums of at least {secure.min_cohort} clients and who is in them, no single update: "
        f"{trusted}, and with at most {fellows} of {secure.group} clients on its side"
    )


def _readers_see(made: "Plan") -> str:
    from tacit.privacy.guarantee import rounded_up

    if made.guarantee is None:
        return "nothing limits what the model reveals about the data: that takes privacy=..."
    if made.guarantee.randomness == "seeded":
        return "nothing hides the data: who knows the job's seed can take the noise off"
    promised = f"epsilon {rounded_up(made.guarantee.epsilon)} at delta {made.guarantee.delta:g}"
    return f"learn about one {made.guarantee.unit} at most what {promised} allows"
