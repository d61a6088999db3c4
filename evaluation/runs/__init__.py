"""Makes runs: loss curves of optimizers on tasks, tuned, timed and kept."""
