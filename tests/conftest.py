"""What every test shares."""

import atexit
import os
import shutil
import tempfile

from hypothesis import settings

# No deadline: the first example of a law may import torch. Under CI every run draws the same
# examples, so that a failure there is about the change and not about luck.
settings.register_profile("tacit", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tacit")

# What runs keep for later ones goes to a folder of these tests alone; pytest-xdist's processes inherit it.
if "TACIT_EXECUTORS" not in os.environ:
    os.environ["TACIT_EXECUTORS"] = tempfile.mkdtemp(prefix="tacit-executors-")
    atexit.register(shutil.rmtree, os.environ["TACIT_EXECUTORS"], ignore_errors=True)
if "TACIT_MASTER_KEY" not in os.environ:
    _secrets = tempfile.mkdtemp(prefix="tacit-secrets-")
    os.environ["TACIT_MASTER_KEY"] = f"{_secrets}/master.key"
    os.environ["TACIT_LEDGER"] = f"{_secrets}/ledger.db"
    atexit.register(shutil.rmtree, _secrets, ignore_errors=True)
