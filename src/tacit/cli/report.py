"""``tacit report``: write a run's report again."""

from tacit.cli.options import AsJson, RunPath
from tacit.cli.output import Output


def report(run: RunPath, as_json: AsJson = False) -> None:
    """Write the report of a run again.

    Prints where it is. Works for every run: completed, stopped, failed, and one that is still going on.

    [bold]Examples[/bold]

    tacit report runs/digits-20250503-140211
    """
    from tacit.report import summary_table, write_report  # late: it imports NumPy
    from tacit.sim import Result
    from tacit.store import RunFolder

    path = write_report(RunFolder.existing(run))
    result, output = Result(run), Output(as_json)
    output.say(summary_table(result.info, rounds=result.rounds))
    output.say(f"report  {path}")
    output.result({**result.as_dict(), "report": str(path)})
