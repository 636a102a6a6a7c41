"""Five hospitals learn to tell malignant from benign tumours; no patient's record leaves its hospital."""

from torch import nn

import tacit


def model():
    return nn.Linear(30, 1)  # logistic regression: a doctor can read its 30 weights


def population():
    # Scaled by the mean and spread of all hospitals: a simulation knows them; deployed, they would be shared.
    # Dirichlet: some hospitals see far more malignant tumours than others.
    return tacit.data.breast_cancer().split(tacit.Dirichlet(alpha=1.0), clients=5, scaling="global")


job = tacit.Job(
    name="hospitals",
    task=tacit.Task(model=model, loss="binary_cross_entropy", metrics=["accuracy", "auc"]),
    algorithm=tacit.FedAvg(local=tacit.LocalSGD(lr=0.1, epochs=2, batch_size=16)),
    cohort=tacit.All(),  # five hospitals: everybody takes part in every round
    rounds=20,
    seed=0,
)
