"""From frames to trained policies: torch, and nothing else that is heavy."""
