"""Set before anything is imported: no hub, and one thread per test process is enough."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
