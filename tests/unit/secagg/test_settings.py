"""The settings of secure aggregation: closed, typed, and careful where nothing is said."""

import pytest

from tacit.core.errors import ConfigError, PlanError
from tacit.core.part import decode, encode
from tacit.secagg.groups import sizes
from tacit.secagg.parameters import Threat, find_parameters
from tacit.secagg.settings import SecureAggregation


@pytest.mark.parametrize(
    "settings",
    [
        SecureAggregation(),
        SecureAggregation(
            min_cohort=20,
            mode="semi_honest",
            corrupt=0.2,
            dropout=0.3,
            group=100,
            lane_bits=16,
            post_quantum=True,
        ),
    ],
)
def test_settings_read_from_a_file_are_those_that_were_written(settings: SecureAggregation) -> None:
    assert decode(SecureAggregation, encode(settings)) == settings


def test_where_nothing_is_said_the_server_is_taken_for_a_liar() -> None:
    settings = SecureAggregation()
    assert settings.threat == Threat(corrupt=0.1, dropout=0.1, mode="malicious")
    assert (settings.min_cohort, settings.group) == (10, 200)
    assert (settings.lane_bits, settings.post_quantum) == (32, False)


def test_what_is_said_is_what_parameters_are_found_for() -> None:
    settings = SecureAggregation(mode="semi_honest", corrupt=0.33, dropout=0, group=100)
    assert settings.threat == Threat(corrupt=0.33, dropout=0.0, mode="semi_honest")
    assert settings.group == 100


def test_the_defaults_have_parameters_for_every_group_they_lead_to() -> None:
    settings = SecureAggregation()
    for cohort in range(settings.min_cohort, 1001):
        for size in set(sizes(cohort, settings.group)):
            found = find_parameters(size, settings.threat)
            assert found.spare >= 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_cohort", 1),
        ("mode", "honest"),
        ("corrupt", 0.5),
        ("corrupt", -0.1),
        ("corrupt", float("nan")),
        ("min_cohort", 2),
        ("dropout", 0.9),
        ("dropout", -0.1),
        ("dropout", float("nan")),
        ("group", 0),
        ("lane_bits", 7),
        ("lane_bits", 64),
        ("post_quantum", "yes"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_its_place(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(SecureAggregation, {name: value}, root="$.secure_aggregation")
    assert caught.value.code == "T103"
    assert caught.value.where.startswith(f"$.secure_aggregation.{name}")


@pytest.mark.parametrize(("min_cohort", "group"), [(10, 9), (3, 2)])
def test_a_group_that_can_never_be_opened_is_refused(min_cohort: int, group: int) -> None:
    with pytest.raises(PlanError) as caught:
        SecureAggregation(min_cohort=min_cohort, group=group)
    assert (caught.value.code, caught.value.where) == ("T187", "SecureAggregation.group")
    assert SecureAggregation(min_cohort=min_cohort, group=group + 1).group == group + 1


def test_a_cohort_above_the_largest_group_of_nobodys_choice_is_refused() -> None:
    with pytest.raises(PlanError, match="at most 200"):
        SecureAggregation(min_cohort=201)
