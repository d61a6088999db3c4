"""Recipes of the released rules."""
