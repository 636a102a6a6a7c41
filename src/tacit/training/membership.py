"""Membership inference: which records was a model trained on?"""

import numpy as np
import numpy.typing as npt
import torch

from tacit.core.examples import Examples
from tacit.core.layout import Vector
from tacit.training.flat import FlatModel
from tacit.training.losses import loss_of
from tacit.training.task import Task
from tacit.training.tensors import tensors_of

_BATCH = 256
Losses = npt.NDArray[np.float64]
"""The loss of each record, shape (records,)."""


def record_losses(task: Task, model: FlatModel, vector: Vector, records: Examples) -> Losses:
    """Return the loss of each record by itself.

    Args:
        task: What is learned.
        model: The task's model; its state is overwritten.
        vector: The model to look into, shape (layout.size,).
        records: The records.
    """
    loss, found = loss_of(task.loss), np.empty(len(records))
    model.load_vector(vector)
    model.module.eval()
    with torch.inference_mode():
        for begin in range(0, len(records), _BATCH):
            inputs, target = tensors_of(
                records.take(slice(begin, begin + _BATCH)), channels_last=model.has_convolution
            )
            outputs = model.module(*inputs)
            for place in range(len(target)):  # a loss is a mean over its batch, whatever it is
                one = slice(place, place + 1)
                found[begin + place] = float(loss(outputs[one], target[one]))
    return found


def membership_scores(
    task: Task, model: FlatModel, vector: Vector, records: Examples, reference: Vector | None = None
) -> Losses:
    """Return a score for each record, higher if the model was more likely trained on it.

    The score is how small the record's loss is (Yeom et al. 2018), compared with its loss under a reference
    that was not trained on it: what is easy for every model says nothing (Watson et al. 2022).

    Args:
        task: What is learned.
        model: The task's model; its state is overwritten.
        vector: The model under attack, shape (layout.size,).
        records: Members and non-members.
        reference: A model that knows none of the records, at best trained like the one under attack.
    """
    losses = record_losses(task, model, vector, records)
    usual = 0.0 if reference is None else record_losses(task, model, reference, records)
    # A loss that overflowed is as bad as any: it must not win, nor be undefined beside another one.
    return np.nan_to_num(usual - losses, nan=0.0)
