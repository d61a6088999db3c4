"""Tasks that optimizers are trained and judged on."""
