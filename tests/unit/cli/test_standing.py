from tacit.cli.standing import Standing
from tacit.core.metrics import ClientSummary
from tacit.round import EvaluationRecord, RoundRecord


def _record(number: int, outcome: str = "committed", **more: object) -> RoundRecord:
    return RoundRecord(
        round=number, outcome=outcome, reason="too few" if outcome == "abandoned" else "",
        invited=("a", "b"), answered=("a",), train_loss=0.5, **more,
    )  # fmt: skip


def test_only_committed_rounds_count() -> None:
    standing = Standing(wanted=3)
    for number, outcome in enumerate(["committed", "abandoned", "committed"], start=1):
        standing.add(_record(number, outcome))
    assert (standing.committed, standing.abandoned) == (2, 1)


def test_words_tell_the_test_set_a_metric_over_clients_and_who_answered() -> None:
    standing = Standing(wanted=3)
    standing.add(_record(1))
    summary = ClientSummary(mean=0.75, worst_10=0.5, spread=0.1, clients=2)
    standing.evaluation = EvaluationRecord(
        round=1, central={"loss": 0.25, "accuracy": 0.875}, clients={"loss": summary, "accuracy": summary}
    )
    expected = "test: loss 0.25, accuracy 0.875  clients: accuracy 0.75, worst tenth 0.5  1/2 answered"
    assert standing.words() == expected


def test_words_say_when_the_last_measurement_is_older_than_the_round() -> None:
    standing = Standing(wanted=3)
    standing.evaluation = EvaluationRecord(round=0, central={"loss": 0.25})
    standing.add(_record(1))
    assert standing.words() == "test: loss 0.25  (after round 0)  training loss 0.5  1/2 answered"


def test_words_say_why_a_round_was_abandoned() -> None:
    standing = Standing(wanted=3)
    standing.add(_record(1, "abandoned"))
    assert standing.words().endswith("1/2 answered  abandoned: too few")


def test_the_time_left_follows_from_this_part_of_the_run_alone() -> None:
    standing = Standing(wanted=10, first=8, committed=8)
    assert standing.seconds_left is None
    standing.began -= 60
    standing.add(_record(9))
    assert standing.seconds_left is not None
    assert 55 < standing.seconds_left < 65


def test_rounds_are_measured_as_the_job_says_and_at_the_end() -> None:
    measured = [Standing(wanted=7, every=3, committed=n).is_measured for n in range(1, 8)]
    assert measured == [False, False, True, False, False, True, True]
