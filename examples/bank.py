"""Five banks learn to foresee defaults on credit cards; each has another kind of customer.

The data file is one that UCI publishes; `tacit doctor` says where to put it.
"""

from torch import nn

import tacit


def model():
    return nn.Sequential(nn.Linear(23, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))


def population():
    return tacit.data.credit_default().split(tacit.Natural(), scaling="global")


job = tacit.Job(
    name="bank",
    task=tacit.Task(model=model, loss="binary_cross_entropy", metrics=["auc", "average_precision"]),
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1, momentum=0.9, epochs=1, batch_size=64)),
    cohort=tacit.All(),
    rounds=20,
    seed=0,
)
