"""From demonstrations to a robot arm: record, train, export and run visuomotor policies behind a safety monitor."""

__version__ = "0.1.0"
