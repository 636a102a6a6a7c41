"""How a worker tells its parent that something went wrong."""

from tacit.core.errors import TacitError


class Complaint:
    """An error of a worker, for its parent to raise."""

    def __init__(self, error: TacitError | None, text: str) -> None:
        self.error, self.text = error, text
