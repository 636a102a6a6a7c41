"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from tacit.core.errors import DataError

JobFile = Annotated[
    Path, typer.Argument(metavar="JOB", help="The job file, .py or .toml.", show_default=False)
]
RunPath = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run folder, such as runs/digits-20250503-140211.", show_default=False
    ),
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="A.B=C",
        help="Change one setting, checked like the file: --set rounds=5 --set algorithm.local.lr=0.05. "
        "May be given several times.",
        show_default=False,
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Where data files lie. By default the folder in TACIT_DATA, or one in the user's cache.",
        show_default=False,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON object as the last line of stdout; everything else goes to stderr."
    ),
]


def checked_data(folder: Path | None) -> Path | None:
    """Return the folder of ``--data``.

    Raises:
        DataError: There is no such folder; a typing error must not start downloads into a new one.
    """
    if folder is not None and not folder.is_dir():
        fix = "Correct the path of --data, or make the folder first."
        raise DataError("T220", "there is no such data folder", where=str(folder), fix=fix)
    return folder
