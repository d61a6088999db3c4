"""How a learned optimizer is meta-trained."""

import tasks as tasks  # first, as it ends commands that cannot run
