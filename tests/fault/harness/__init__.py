"""Shared by the fault tests: deployments with a liar in them, recordings of all topics, and what shows in those."""

import os

SLACK = float(os.environ.get("FAULT_SLACK", "3"))
"""Factor on every time limit, for shared machines."""
