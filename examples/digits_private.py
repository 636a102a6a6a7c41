"""A thousand phones learn to read digits, and what any one of them holds hardly shows in the model.

Each phone has seen only two of the ten digits. Epsilon is 2 for all that one person has, and nobody had to
choose a clipping bound: it follows the norms of the updates. The data set is small, so phones hold some of
the same images: the example shows how well one learns under noise, not how well real owners are hidden.
"""

import numpy as np
from torch import nn

import tacit

IMAGES = 20  # on each phone


def model():
    scores = nn.Linear(64, 10)
    # From zero, as random weights would be noise, too.
    nn.init.zeros_(scores.weight)
    nn.init.zeros_(scores.bias)
    # Every image by itself gets mean 0 and spread 1: no statistics of anybody's data are needed for that. All
    # pixels being positive, updates would else be long in a direction in which they cancel out in the mean.
    return nn.Sequential(nn.LayerNorm(64, elementwise_affine=False), scores)


def population(clients=1000, seed=0):
    # A fifth of the 1,797 images is the central test set; from the others each phone draws its own.
    pool = tacit.data.digits().split(tacit.IID(), clients=1, test=0.2, holdout=0.0, seed=seed).open()
    draw = np.random.default_rng(seed)
    people = {f"phone-{number:03d}": two_digits(pool.train(0), draw) for number in range(clients)}
    return tacit.Population.of(people, test=pool.test)


def two_digits(images, draw):
    digits = draw.choice(10, size=2, replace=False)
    return images.take(draw.choice(np.flatnonzero(np.isin(images.target, digits)), size=IMAGES))


job = tacit.Job(
    name="digits-private",
    task=tacit.Task(model=model, loss="cross_entropy", metrics=["accuracy"]),
    algorithm=tacit.FedAvg(
        local=tacit.LocalSGD(lr=0.2, epochs=2, batch_size=10),
        server=tacit.ServerSGD(lr=0.7, momentum=0.5),  # evens out the noise of several rounds
    ),
    cohort=tacit.Poisson(rate=0.05),  # a secret coin for every phone in every round: privacy gains from it
    rounds=60,
    seed=0,
    privacy=tacit.Privacy(unit="user", epsilon=2.0, delta=1e-4),  # delta: a tenth of one over the population
)
