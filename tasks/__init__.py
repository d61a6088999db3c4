"""Tasks that optimizers are trained and judged on."""

from common import command_line as command_line  # ends commands that cannot run
