"""Take the masks that did not cancel off a sum: the server's heavy work, in parts that go side by side."""

from dataclasses import dataclass, field
from itertools import pairwise

from tacit.core.errors import LocalProtocolError
from tacit.secagg.masks import WORDS_PER_STEP, Mask, add_masks
from tacit.secagg.ring import Words


def chunks(words: int, most: int) -> list[slice]:
    """Return parts of at most ``most`` words, near-equal, that make up all of them.

    Each begins where a block of the keystream does.

    >>> chunks(10, 4)
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    if words < 0 or most < WORDS_PER_STEP:
        raise ValueError(
            f"parts have at least {WORDS_PER_STEP} words, not {most}, of at least 0, not {words}"
        )
    steps = -(-words // WORDS_PER_STEP)
    count = -(-steps // (most // WORDS_PER_STEP))
    ends = [min(WORDS_PER_STEP * -(-steps * i // count), words) for i in range(count + 1)] if count else [0]
    return [slice(begin, end) for begin, end in pairwise(ends)]


@dataclass(frozen=True)
class Unmasking:
    """The masks to add to a sum of masked rows so that the sum alone is left.

    Parts do not touch each other's words, and both AES and NumPy work without the interpreter's lock: a
    driver may apply them in threads, or in processes that share the sum's memory. In a part of 2**17 words
    or more, starting the streams takes a few per cent of the time.

    Attributes:
        masks: With the signs that take them off. Secret: they open a survivors' sum, together with the sum.
        words: Length of the sum.
    """

    masks: tuple[Mask, ...] = field(repr=False)
    words: int

    def apply(self, total: Words, part: slice) -> None:
        """Take all masks off this part of the sum, in place; each part exactly once."""
        if total.shape != (self.words,):
            raise LocalProtocolError("T554", f"the sum has {self.words} words, not {total.shape}")
        begin, end, step = part.indices(self.words)
        if step != 1 or begin % WORDS_PER_STEP:
            raise LocalProtocolError("T554", f"{part} is not a part of the sum")
        add_masks(total[begin:end], self.masks, begin)
