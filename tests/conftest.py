"""What every test shares."""

import os

from hypothesis import settings

# No deadline: the first example of a law may import torch. Under CI every run draws the same
# examples, so that a failure there is about the change and not about luck.
settings.register_profile("tacit", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tacit")
