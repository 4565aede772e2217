"""The configurations that come with the package, found by name."""

from pathlib import Path

from speechmlp.errors import UserError, unknown


def shipped_configs() -> dict[str, Path]:
    """Returns name -> file of the shipped configurations, in the installed package or in its checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if files := sorted(folder.glob("*.yaml")):
            return {file.stem: file for file in files}
    return {}


def find_config(wanted: str | Path) -> Path:
    """Returns the file of a configuration: a path, or the name of a shipped one. A file that exists wins.

    Raises:
        UserError: there is no such file and no such name; it suggests the nearest name.
    """
    path, shipped = Path(wanted), shipped_configs()
    if path.exists() and not (path.is_dir() and str(wanted) in shipped):
        return path
    if str(wanted) in shipped:
        return shipped[str(wanted)]
    if path.stem in shipped:
        raise UserError(f"{wanted}: no such config file; the shipped one is found by its name: {path.stem}")
    raise unknown(f"{wanted}: no such config file or shipped configuration", path.stem, shipped)
