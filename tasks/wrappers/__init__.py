"""Wrappers of families: augmentations of what is trained."""
