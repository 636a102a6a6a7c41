"""A task: what is learned, from plain PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tacit.core.part import Reference, References, Settings


class Task(Settings, frozen=True):
    """What is learned: a model, a loss and metrics.

    Attributes:
        model: A callable without required arguments that returns a ``torch.nn.Module``, or its address
            ``"package:function"``. It is called once per process, under the job's seed.
        arguments: Keyword arguments for ``model``.
        loss: A name (``"cross_entropy"``, ``"binary_cross_entropy"``, ``"mse"``, ``"l1"``, ``"huber"``) or a
            function ``(outputs, targets) -> scalar tensor``, the mean over the batch.
        metrics: Names (``"accuracy"``, ``"top3_accuracy"``, ``"top5_accuracy"``, ``"auc"``,
            ``"average_precision"``, ``"mse"``, ``"mae"``) or functions ``(outputs, targets) -> scalar``.
        initial: A ``.safetensors`` file to start from (a run's ``model.safetensors``, for example).
        buffers: What becomes of floating-point buffers such as batch-norm statistics: ``"average"`` sends
            and averages them with the parameters, ``"local"`` leaves them with each client.
    """

    model: Reference
    arguments: Mapping[str, Any] = {}
    loss: Reference = "cross_entropy"
    metrics: References = ()
    initial: Path | None = None
    buffers: Literal["average", "local"] = "average"
