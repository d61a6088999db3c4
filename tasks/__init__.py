"""Tasks that optimizers are trained and judged on."""

from tasks import commands as commands
