"""matplotlib, if it is installed (extra `pictures`)."""

from typing import Any

from speechmlp.errors import UserError


def load_pyplot() -> Any:
    """Returns matplotlib.pyplot, drawing into files only.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise UserError("pictures need matplotlib: python -m pip install 'speechmlp[pictures]'") from error
    return pyplot
