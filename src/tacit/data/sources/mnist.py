"""MNIST, from its four idx files."""

import struct
from pathlib import Path

import numpy as np

from tacit.core.errors import DataError
from tacit.core.examples import Array
from tacit.core.part import Part
from tacit.data.files import RemoteFile, load
from tacit.data.source import Splittable
from tacit.data.table import Table

_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)


def _file(name: str, sha256: str, size: int) -> RemoteFile:
    packed = f"{name}.gz"
    urls = tuple(mirror + packed for mirror in _MIRRORS)
    return RemoteFile(packed, urls, sha256, size, folder="mnist", aliases=(name,))


TRAIN_IMAGES = _file(
    "train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016
)
TRAIN_LABELS = _file(
    "train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008
)
TEST_IMAGES = _file(
    "t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016
)
TEST_LABELS = _file(
    "t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008
)


class MNIST(Splittable, Part, frozen=True, tag="mnist"):
    """Handwritten digits: 60,000 images for training and the official 10,000 for testing (LeCun et al. 1998).

    Inputs are float32 from 0 to 1 of shape (n, 1, 28, 28), uint8 until a client loads them; targets int64.

    Attributes:
        flat: Make the images rows of shape (n, 784).
    """

    flat: bool = False

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS

    def load(self, folder: Path) -> Table:
        test = self._table(TEST_IMAGES, TEST_LABELS, folder)
        train = self._table(TRAIN_IMAGES, TRAIN_LABELS, folder)
        return Table(train.inputs, train.target, test=test, transform=to_unit)

    def _table(self, images: RemoteFile, labels: RemoteFile, folder: Path) -> Table:
        pixels = parse_idx(load(images, folder), images.name)
        pixels = pixels.reshape((-1, 784) if self.flat else (-1, 1, 28, 28))
        digits = parse_idx(load(labels, folder), labels.name)
        return Table((pixels,), digits.astype(np.int64), transform=to_unit)


def to_unit(inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Turn bytes into float32 from 0 to 1."""
    return tuple(array.astype(np.float32) / np.float32(255) for array in inputs)


def parse_idx(content: bytes, where: str) -> Array:
    """Read an idx file of bytes: two zeros, type 8, the number of axes, big-endian lengths, then the values.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]), "example")
    array([5, 7], dtype=uint8)

    Raises:
        DataError: It is none, or shorter or longer than it says.
    """
    fix = "Fetch the file again."
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError("T208", "this is no idx file of bytes", where=where, fix=fix)
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError("T208", "the idx file ends inside its header", where=where, fix=fix)
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != int(np.prod(shape, dtype=object)):
        what = f"the idx file says it has shape {shape}, but holds {len(content) - start} bytes"
        raise DataError("T208", what, where=where, fix=fix)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
