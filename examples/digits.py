"""A hundred phones learn to read digits; each has seen only a few of them."""

from torch import nn

import tacit


def model():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def population():
    return tacit.data.digits().split(tacit.Dirichlet(alpha=0.3), clients=100)


job = tacit.Job(
    name="digits",
    task=tacit.Task(model=model, loss="cross_entropy", metrics=["accuracy"]),
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.3, epochs=5, batch_size=10)),
    cohort=tacit.FixedSize(20),
    rounds=30,
    seed=0,
)
