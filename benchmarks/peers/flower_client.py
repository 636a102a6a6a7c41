"""What runs on a node of Flower; a module of its own, which its actors import by name."""

import os
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks.reference.plain_loop import LocalTrainer

# Before flwr and ray are imported: nobody is told of our runs.
os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}

from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()  # type: ignore[untyped-decorator]
def train(message: Any, context: Any) -> Any:
    """Train the user that the message names for one local epoch, from the weights that it brings."""
    config = message.content["config"]
    trainer = trainer_of(config["workload"])
    weights = [torch.from_numpy(array) for array in message.content["arrays"].to_numpy_ndarrays()]
    examples = trainer.train_user(config["user"], weights)
    content = {
        "arrays": record_of(p.detach().numpy() for p in trainer.parameters),
        "metrics": MetricRecord({"num-examples": examples}),
    }
    return Message(RecordDict(content), reply_to=message)


@cache
def trainer_of(name: str) -> LocalTrainer:
    """Return this process's trainer: model and data are not built anew for every message."""
    torch.set_num_threads(1)
    return LocalTrainer(name)


def record_of(arrays: Iterable[Any]) -> Any:
    """Put arrays into Flower's envelope, in their order."""
    return ArrayRecord({str(index): Array(np.asarray(array)) for index, array in enumerate(arrays)})
