"""Heart Disease: the patients of four hospitals."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tacit.core.part import Part
from tacit.data.files import RemoteFile, load
from tacit.data.source import Splittable
from tacit.data.table import Table

_URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/"
_HOSPITALS = {
    "cleveland": ("a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8", 18_461),
    "hungarian": ("d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796", 10_263),
    "switzerland": ("834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314", 4_109),
    "va": ("e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f", 6_737),
}
_DROPPED = (10, 11, 12)  # slope, ca, thal: missing in most rows outside Cleveland
_CATEGORIES = {2: (2.0, 3.0, 4.0), 6: (1.0, 2.0)}  # cp and restecg, each without its first value
FEATURES = (
    *("age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak"),
    *("cp=2", "cp=3", "cp=4", "restecg=1", "restecg=2"),
)
"""Names of the 13 features, in order."""


class HeartDisease(Splittable, Part, frozen=True, tag="heart_disease"):
    """Heart disease of 740 patients in four hospitals (UCI; Janosi et al. 1989), prepared as FLamby does.

    Natural column ``hospital``: Cleveland 303, Hungary 261, Switzerland 46 and Long Beach VA 130. Three
    columns that most hospitals did not record are dropped, then incomplete rows; the two columns with more
    than two categories become one column for each category but the first (du Terrail et al. 2022). Inputs are
    float32 of shape (n, 13), see ``FEATURES``; targets int64: 1 for any of the four degrees of disease.

    Split with ``scaling="global"``: hospitals differ in their means, which tells the model a lot.
    """

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return tuple(
            RemoteFile(
                f"processed.{name}.data", (f"{_URL}processed.{name}.data",), sha256, size, folder="heart"
            )
            for name, (sha256, size) in _HOSPITALS.items()
        )

    def load(self, folder: Path) -> Table:
        parsed = [_parse(load(file, folder).decode("ascii")) for file in self.files]
        rows = np.concatenate(parsed)
        hospitals = np.repeat(np.array(list(_HOSPITALS)), [len(part) for part in parsed])
        return Table((_features(rows),), (rows[:, -1] > 0).astype(np.int64), {"hospital": hospitals})


def _parse(text: str) -> npt.NDArray[np.float64]:
    """Return the complete rows, shape (rows, 14); dropped columns do not count."""
    cells = [line.split(",") for line in text.splitlines() if line.strip()]
    rows = np.array([[np.nan if cell == "?" else float(cell) for cell in row] for row in cells])
    kept = np.delete(rows, _DROPPED, axis=1)
    complete: npt.NDArray[np.bool_] = np.isfinite(kept).all(axis=1)
    return np.asarray(rows[complete])


def _features(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    plain = np.delete(rows[:, :-1], (*_CATEGORIES, *_DROPPED), axis=1)
    coded = [rows[:, column] == value for column, values in _CATEGORIES.items() for value in values]
    return np.column_stack([plain, *coded]).astype(np.float32)
