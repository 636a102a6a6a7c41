"""What the owner of a device has decided, checked by the device itself before it trains."""

from tacit.core.errors import RemoteProtocolError
from tacit.privacy.floor import DeviceRecord, Floor, Offer, Participation
from tacit.privacy.ledger import Accountant


class Owner:
    """Guards one device: its floor, and its own record of what it took part in.

    Args:
        floor: The least protection that is accepted; no job can change it.
        accountant: Interprets events.
        record: What the device took part in so far.

    Attributes:
        record: What it took part in, to be kept on the device's own disk before its update leaves.
    """

    def __init__(self, floor: Floor, accountant: Accountant, record: DeviceRecord | None = None) -> None:
        self._floor, self._accountant = floor, accountant
        self.record = record or DeviceRecord()

    def check(self, offer: Offer | None, day: int) -> None:
        """Refuse what falls below the floor.

        Raises:
            RemoteProtocolError: A demand is not met; the message names it.
        """
        if offer is not None:
            self._floor.check(offer, self.record, day, self._accountant)
        elif self._floor.demands_guarantee or self._floor.min_cohort > 1:
            what = "the job promises nothing"
            fix = "The owner of this device demands differential privacy."
            raise RemoteProtocolError("T520", what, where="guarantee", fix=fix)

    def note(self, offer: Offer | None, day: int) -> None:
        """Write down that the device takes part, whatever then becomes of the round."""
        if offer is not None:
            taken = Participation(offer=offer, day=day)
            self.record = DeviceRecord(participations=(*self.record.participations, taken))
