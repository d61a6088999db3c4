"""Learned optimizers as ordinary Optax transformations."""
