"""Settings for every test: two cores are shared with whatever else runs, and nothing may reach the network."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # before torch is loaded; see intarsia/cli
os.environ.setdefault("HF_HUB_OFFLINE", "1")
