"""Shipped configs; packages, so that no folder of this name comes before them."""
