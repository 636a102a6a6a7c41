"""Default of credit card clients: 30,000 customers, dealt to five banks by what they are like."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tacit.core.part import Part
from tacit.data.files import RemoteFile, load
from tacit.data.source import Splittable
from tacit.data.table import Table

FEATURES = (
    *("LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE"),
    *("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"),
    *(f"BILL_AMT{month}" for month in range(1, 7)),
    *(f"PAY_AMT{month}" for month in range(1, 7)),
)
"""Names of the 23 features, in order."""

_FILE = RemoteFile(
    "UCI_Credit_Card.csv",
    (),  # UCI publishes an Excel sheet
    "0975c5caa482964fbf52443cb9dd064d471a56c853663ca2f6e559735d40d947",
    2_875_710,
    folder="credit",
    text=True,
    note=(
        'It is the sheet "default of credit card clients" of the UCI Machine Learning Repository '
        f"(set 350) as CSV: one header line ID,{','.join(FEATURES)},class and 30,000 rows of whole numbers."
    ),
)
_SMALL, _LARGE, _GRADUATE = 50_000, 200_000, 1


class CreditDefault(Splittable, Part, frozen=True, tag="credit_default"):
    """Default of 30,000 credit card customers in Taiwan, 22.1 % of them (UCI; Yeh and Lien 2009).

    Inputs are float32 of shape (n, 23) as in the file, see ``FEATURES``: split with ``scaling="global"``.
    Targets are int64, 1 for default.

    Natural column ``bank``, five made-up banks with different customers: ``bank-1`` grants limits up to
    50,000 (32 % default); up to 200,000 ``bank-2`` serves customers without and ``bank-3`` with a graduate
    degree (22 % and 21 %); above it, ``bank-4`` and ``bank-5`` likewise (15 % each).
    """

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return (_FILE,)

    def load(self, folder: Path) -> Table:
        lines = load(_FILE, folder).decode("ascii").splitlines()[1:]
        rows = np.loadtxt(lines, delimiter=",", dtype=np.float64)
        features = rows[:, 1:-1].astype(np.float32)
        return Table((features,), rows[:, -1].astype(np.int64), {"bank": _bank(rows[:, 1], rows[:, 3])})


def _bank(limit: npt.NDArray[np.float64], education: npt.NDArray[np.float64]) -> npt.NDArray[np.str_]:
    band = (limit > _SMALL).astype(int) + (limit > _LARGE)
    number = np.where(band == 0, 1, 2 * band + (education == _GRADUATE))
    return np.char.add("bank-", number.astype(str))
