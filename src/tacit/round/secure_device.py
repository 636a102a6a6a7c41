"""One device in a round whose sums are secure: a machine without I/O around two others."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tacit.core.errors import RemoteProtocolError
from tacit.core.rule import Grid, Rule
from tacit.round.device import RoundDevice
from tacit.round.masking import packed
from tacit.round.messages import Assignment, AssignmentReceived, DeviceEffect, SendUpdates, TrainingDone
from tacit.secagg.client import SecureClient
from tacit.secagg.events import ClientEffect, Closed, Invited, Leave, Masks, RowReady, Send, ServerMessage
from tacit.secagg.masks import Mask, add_masks
from tacit.secagg.ring import Ring
from tacit.secagg.terms import Terms


class SecureDevice:
    """Has one client train while keys and shares are exchanged, and sends its update under its masks alone.

    The two go side by side: whichever is ready first, masks or update, waits for the other. A client whose
    training fails leaves the secure sum; nothing of its update ever reaches the server.

    Args:
        device: The device's part in the round.
        client: Its part in the secure sum of its group.
        terms: What it was invited on, which the client has.
        model_sha256: Digest of the model that the device has received, as it computed it itself.
        settings_sha256: Digest of all that turns its update into lanes, as its own plan has it.
        rule: How updates become one.
        grid: The grid of the sum.
        ring: Its integers as words.
    """

    def __init__(
        self,
        device: RoundDevice,
        client: SecureClient,
        terms: Terms,
        *,
        model_sha256: bytes,
        settings_sha256: bytes,
        rule: Rule,
        grid: Grid,
        ring: Ring,
    ) -> None:
        self._device, self._client, self._terms = device, client, terms
        self._model_sha256, self._settings_sha256 = model_sha256, settings_sha256
        self._rule, self._grid, self._ring = rule, grid, ring
        self._words: npt.NDArray[np.uint64] | None = None
        self._masks: tuple[Mask, ...] | None = None

    def receive(
        self, event: AssignmentReceived | TrainingDone | ServerMessage | Leave
    ) -> tuple[DeviceEffect | Send | Closed, ...]:
        """Take one event and return what is to be done.

        The driver says ``Leave`` when the round is over for the device: it has no secret left then.

        Raises:
            RemoteProtocolError: The server broke a rule: the device takes no further part in the round.
            LocalProtocolError: What is asked for is not legal now.
        """
        match event:
            case AssignmentReceived():
                self._check(event.assignment)
                return (*self._device.receive(event), *self._follow(self._client.receive(Invited())))
            case TrainingDone():
                return self._trained(self._device.receive(event))
            case Leave():
                self._words = self._masks = None
        return self._follow(self._client.receive(event))

    def _check(self, assignment: Assignment) -> None:
        """Refuse terms that are not those of this assignment, or of another model than this device has.

        A server that gives every client a model of its own could tell their updates apart in any sum
        (Pasquini et al. 2022): clients with different terms never share a session.
        """
        terms = self._terms
        if (terms.job, terms.round) != (assignment.job, assignment.round):
            raise RemoteProtocolError("T556", "the terms of the secure sum are those of another round")
        if terms.model_sha256 != self._model_sha256:
            raise RemoteProtocolError("T556", "the terms of the secure sum name another model than was sent")
        if terms.settings_sha256 != self._settings_sha256:
            raise RemoteProtocolError("T556", "the terms of the secure sum name other settings than its own")

    def _trained(self, effects: Iterable[DeviceEffect]) -> tuple[DeviceEffect | Send | Closed, ...]:
        (sent,) = effects
        assert isinstance(sent, SendUpdates)
        if not sent.clients:
            reason = next((failure.reason for failure in sent.failures.values()), "nothing was trained")
            return (sent, *self._follow(self._client.receive(Leave(reason))))
        self._words = packed(sent.rows[0], self._rule, self._grid, self._ring)
        return self._hand_over()

    def _follow(self, effects: Iterable[ClientEffect]) -> tuple[Send | Closed, ...]:
        wanted: list[Send | Closed] = []
        for effect in effects:
            if isinstance(effect, Masks):
                self._masks = effect.masks
                wanted += self._hand_over()
            else:
                wanted.append(effect)
        return tuple(wanted)

    def _hand_over(self) -> tuple[Send | Closed, ...]:
        """Mask the update and let it go, once both are there."""
        if self._words is None or self._masks is None:
            return ()
        words, masks = self._words, self._masks
        self._words = self._masks = None
        add_masks(words, masks)
        return self._follow(self._client.receive(RowReady(words)))
