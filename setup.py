"""What pyproject.toml cannot say: released rules go into the wheel, as lopt's data."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithCheckpoints(build_py):
    """Copies checkpoints/ beside the modules; editable, they are read in place."""

    def run(self):
        """Copies the modules, then each artifact."""
        super().run()
        if self.editable_mode:
            return
        for file in Path("checkpoints").glob("*/*"):
            if file.name in ("card.json", "theta.safetensors"):
                target = Path(self.build_lib, "lopt", file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)


setup(cmdclass={"build_py": WithCheckpoints})
