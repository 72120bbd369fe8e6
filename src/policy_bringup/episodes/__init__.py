"""Demonstrations on disk: bags that survive anything, their labels, and the training data made of them."""
