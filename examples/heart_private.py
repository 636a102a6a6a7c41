"""Four hospitals learn to recognise heart disease; no patient's record shows, not even in what they send."""

import torch
from torch import nn

import tacit

# Scaled by what a textbook says of adults sent to a heart clinic, not by what these patients' records say: a
# mean of the data would tell of them. Centre and spread; for the ten yes-or-no features a half.
SCALES = {"age": (55, 10), "trestbps": (130, 20), "chol": (220, 80), "thalach": (140, 25), "oldpeak": (1, 1)}
FEATURES = (
    *("age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak"),
    *("cp=2", "cp=3", "cp=4", "restecg=1", "restecg=2"),
)


class Scaled(nn.Module):
    """Bring features to about -1 to 1; nobody lies further out than 3."""

    def __init__(self):
        super().__init__()
        scales = torch.tensor([SCALES.get(feature, (0.5, 0.5)) for feature in FEATURES])
        self.register_buffer(
            "centre", scales[:, 0], persistent=False
        )  # constants: nothing to learn or to send
        self.register_buffer("spread", scales[:, 1], persistent=False)

    def forward(self, x):
        return ((x - self.centre) / self.spread).clamp(-3, 3)


def model():
    scores = nn.Linear(13, 1)  # logistic regression: a doctor can read its 13 weights
    nn.init.zeros_(scores.weight)
    nn.init.zeros_(scores.bias)
    return nn.Sequential(Scaled(), scores)


def population():
    return tacit.data.heart_disease().split(test=0.0, holdout=0.34)  # by hospital, as the data come


job = tacit.Job(
    name="heart-private",
    task=tacit.Task(model=model, loss="binary_cross_entropy", metrics=["accuracy"]),
    # Every step of a hospital is a release of its own: few large ones leave more signal than many small ones.
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=1.0, steps=1, batch_size="all")),
    cohort=tacit.All(),
    rounds=15,
    seed=0,
    privacy=tacit.Privacy(
        unit="record",  # each patient is hidden from everybody but the own hospital, which adds the noise
        epsilon=1.0,
        delta=1e-3,
        allow_large_delta=True,  # a tenth of one over 200 patients would be half of it
        clipping=tacit.FixedClipping(bound=1.0),
    ),
)
