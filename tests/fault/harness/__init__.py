"""Shared by the fault tests: deployments with a liar in them, recordings of all topics, and what shows in those."""
