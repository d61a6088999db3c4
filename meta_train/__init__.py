"""How a learned optimizer is meta-trained."""

from common import command_line as command_line  # ends commands that cannot run
