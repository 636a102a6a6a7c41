"""``tacit plan``: what a job would cost, or why it would be refused."""

from collections.abc import Iterator, Mapping
from typing import Any

from tacit.cli.options import AsJson, DataFolder, JobFile, Overrides, checked_data
from tacit.cli.output import Output, facts


def plan(job: JobFile, overrides: Overrides = [], data: DataFolder = None, as_json: AsJson = False) -> None:  # noqa: B006 - typer copies it
    """Check a job and price it; runs nothing.

    Shows parameters, bytes, memory, cohort and which privacy holds. A job that would be refused is refused
    here, with the reason and what to do about it.

    [bold]Examples[/bold]

    tacit plan examples/digits.py
    tacit plan examples/digits.py --set cohort.count=50
    tacit plan examples/digits.py --json | jq .bytes_up_per_client
    """
    from tacit.job import load_job  # late: it imports torch
    from tacit.sim import plan as plan_of

    folder = checked_data(data)
    loaded = load_job(job, overrides)
    planned = plan_of(loaded.job, loaded.population, data=folder).as_dict()
    output = Output(as_json)
    output.say(facts(_rows(planned)))
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
