"""Puts the configurations of the top-level folder into the built package; pyproject.toml has everything else."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies configs/*.yaml to speechmlp/configs in a wheel; an editable installation reads them where they are."""

    def run(self) -> None:
        """Builds the package."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "speechmlp" / "configs"
            target.mkdir(parents=True, exist_ok=True)
            for config in Path("configs").glob("*.yaml"):
                shutil.copyfile(config, target / config.name)


setup(cmdclass={"build_py": BuildWithConfigs})
