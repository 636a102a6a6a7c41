"""Data sets that come inside scikit-learn: no file to fetch."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tacit.core.errors import DataError
from tacit.core.part import Part
from tacit.data.files import RemoteFile
from tacit.data.source import Splittable
from tacit.data.table import Table


class Digits(Splittable, Part, frozen=True, tag="digits"):
    """Handwritten digits, 1,797 images of 8 x 8 pixels (UCI; Alpaydin and Kaynak 1998).

    Inputs are float32 of shape (n, 64) from 0 to 1, targets int64 labels 0 to 9.

    >>> len(Digits().load(Path()))
    1797
    """

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return ()

    def load(self, folder: Path) -> Table:
        data = _bundled("digits.csv.gz", skip=0)
        return Table((data[:, :-1].astype(np.float32) / 16,), data[:, -1].astype(np.int64))


class BreastCancer(Splittable, Part, frozen=True, tag="breast_cancer"):
    """Breast cancer, Wisconsin (diagnostic): 569 tumours, 30 measurements (UCI; Street et al. 1993).

    Inputs are float32 of shape (n, 30) on scales from 0.001 to 4,000: split with ``scaling="global"``.
    Targets are int64: 0 malignant, 1 benign. There are no natural groups: make hospitals by ``IID`` or
    ``Dirichlet``.

    >>> BreastCancer().load(Path()).target.mean().round(3)
    np.float64(0.627)
    """

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return ()

    def load(self, folder: Path) -> Table:
        data = _bundled("breast_cancer.csv", skip=1)
        return Table((data[:, :-1].astype(np.float32),), data[:, -1].astype(np.int64))


def _bundled(name: str, skip: int) -> npt.NDArray[np.float64]:
    """Read one of scikit-learn's files without importing scikit-learn, which takes a second."""
    package = importlib.util.find_spec("sklearn")
    origin = package.origin if package else None
    path = Path(origin or "").parent / "datasets" / "data" / name
    if not path.is_file():
        fix = "Install scikit-learn again: pip install --force-reinstall scikit-learn"
        raise DataError("T206", f"scikit-learn lacks its data file {name}", where=str(path), fix=fix)
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    return np.loadtxt(text.decode("ascii").splitlines(), delimiter=",", skiprows=skip)
