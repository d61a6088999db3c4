"""Weighs runs: AlgoPerf's score, times to targets, standings and budgets."""
