"""Offline work that needs several rooms at once: learning, simulation, inference and episodes."""
