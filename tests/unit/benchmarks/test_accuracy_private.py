from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

import tacit
from benchmarks.accuracy_private import (
    CORRELATED_CLIP,
    DIGITS,
    IMAGES,
    MECHANISMS,
    DigitsCase,
    correlated_job,
    digits,
    phones,
    privacy_of,
    standing,
)
from benchmarks.reference.private_loop import PlainPrivateLoop, accuracy, normalised


def test_every_phone_of_the_example_holds_twenty_images_of_two_digits() -> None:
    population = phones()
    held = [population.train(phone) for phone in range(len(population))]
    assert len(held) == 1000
    assert {len(images) for images in held} == {IMAGES}
    assert max(len(np.unique(images.target)) for images in held) == 2
    assert len(np.unique(np.concatenate([images.target for images in held]))) == 10


def test_no_phone_of_the_example_holds_an_image_of_the_test_set() -> None:
    population = phones(clients=200)
    assert population.test is not None
    tested = {row.tobytes() for row in population.test.inputs[0]}
    held = {row.tobytes() for phone in range(200) for row in population.train(phone).inputs[0]}
    assert len(tested) > 300
    assert not tested & held


def test_the_example_promises_epsilon_two_and_draws_its_noise_from_the_system() -> None:
    plan = tacit.plan(DIGITS.job, phones()).private
    assert plan is not None
    assert 1.98 < plan.epsilon <= 2.0
    assert (plan.adjacency, plan.is_amplified) == ("add_remove", True)
    assert privacy_of(DIGITS.job).randomness == "system"
    assert privacy_of(DIGITS.job).clipping.is_adaptive


def test_both_mechanisms_are_compared_at_the_same_epsilon_clip_and_relation() -> None:
    population = phones()
    plans = [
        tacit.plan(correlated_job(kind, 1.0, seed=0), population).private for kind in MECHANISMS.values()
    ]
    assert {(plan.adjacency, plan.min_separation, plan.sampling.rounds) for plan in plans if plan} == {
        ("zero_out", 20, 200)
    }
    assert {plan.privacy.clipping.first_bound for plan in plans if plan} == {CORRELATED_CLIP}
    assert [plan.epsilon for plan in plans if plan] == pytest.approx([2.0, 2.0], abs=1e-3)


def test_a_private_round_is_that_of_the_plain_loop_but_for_its_noise(tmp_path: Path) -> None:
    population, clip, users = phones(clients=30), 0.05, 30
    privacy = tacit.Privacy(
        unit="user",
        noise_multiplier=1.0,
        delta=1e-3,
        clipping=tacit.FixedClipping(bound=clip),
        randomness="seeded",
    )
    local = tacit.LocalSGD(lr=0.2, epochs=2, batch_size="all")
    changes = {"cohort": tacit.Poisson(rate=1.0), "rounds": 1, "privacy": privacy}
    job = replace(DIGITS.job, algorithm=tacit.FedAvg(local=local), **changes)
    linear = tacit.run(job, population, folder=tmp_path / "run", executor="rules").model().get_submodule("1")
    ours = np.column_stack([linear.weight.detach().numpy(), linear.bias.detach().numpy()])

    held = [population.train(user) for user in range(users)]
    data = [(normalised(images.inputs[0].astype(np.float64)), images.target) for images in held]
    loop = PlainPrivateLoop(rate=1.0, rounds=1, clip=clip, lr=0.2, epochs=2, batch_size=IMAGES)
    noise = (ours - loop.run(data)) / (1.0 * clip / users)
    # Of 650 standard normals: five standard deviations of their mean, and of their standard deviation.
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * noise.size))


def test_images_are_normalised_as_the_model_does_it() -> None:
    images = np.random.default_rng(0).random((5, 64))
    layer = torch.nn.LayerNorm(64, elementwise_affine=False)
    assert normalised(images) == pytest.approx(layer(torch.tensor(images)).numpy(), abs=1e-9)


def test_the_plain_loop_learns_and_its_clip_holds() -> None:
    population = phones(clients=20)
    assert population.test is not None
    users = [
        (images.inputs[0].astype(np.float64), images.target) for images in map(population.train, range(20))
    ]
    test = (population.test.inputs[0].astype(np.float64), population.test.target)
    loop = PlainPrivateLoop(rate=1.0, rounds=5)
    assert accuracy(loop.run(users), test) > 0.6
    assert np.linalg.norm(PlainPrivateLoop(rate=1.0, rounds=3, clip=0.01).run(users)) <= 0.03 * (1 + 1e-9)


def test_the_figures_of_a_case_say_what_was_promised_and_what_was_reached() -> None:
    case = DigitsCase(clients=20, rate=0.5, rounds=1, delta=1e-3, must=0.0, aim=1.0)
    figures = digits(case, seeds=(10,))
    assert 1.9 < figures["epsilon"] <= 2.0
    assert (figures["delta"], figures["relation"]) == (1e-3, "add_remove")
    assert figures["mean"] == figures["accuracy"]["10"]
    assert (figures["meets_must"], figures["meets_aim"]) == (True, False)
    for loop in figures["plain_loop"].values():
        assert loop["best_mean"] == max(loop["mean_by_clip"].values())
    assert digits(case, seeds=(10,)) == figures


def test_a_mean_below_what_it_must_be_is_a_miss() -> None:
    found = standing({0: 0.70, 1: 0.90}, must=0.81, aim=0.85)
    assert (found["mean"], found["meets_must"], found["meets_aim"]) == (0.8, False, False)
    assert standing({0: 0.82}, must=0.81, aim=0.85)["meets_must"]
