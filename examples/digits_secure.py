"""A hundred phones learn to read digits, and the server sees only sums of at least ten of them.

The job of digits.py with secure aggregation: 20 phones a round hide their updates under masks that cancel in
the sum. A sum of integers needs room for the largest update, hence the clipping bound and the cap on weights.
It is not differential privacy: the sums, and the model, are exact. `tacit run --real-masks` plays every key,
share and mask; the model is the same.
"""

from torch import nn

import tacit


def model():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def population():
    return tacit.data.digits().split(tacit.Dirichlet(alpha=0.3), clients=100)


job = tacit.Job(
    name="digits-secure",
    task=tacit.Task(model=model, loss="cross_entropy", metrics=["accuracy"]),
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.3, epochs=5, batch_size=10)),
    cohort=tacit.FixedSize(20),
    rounds=30,
    seed=0,
    clipping_bound=2.0,  # an update that is longer is scaled down to it
    weighting=tacit.Weigh(cap=50),  # no phone counts for more than 50 images
    secure_aggregation=tacit.SecureAggregation(min_cohort=10),  # no sum of fewer is ever opened
)
