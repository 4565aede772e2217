"""Train, evaluate and use multilayer perceptrons that recognise spoken letters."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("speechmlp")
except PackageNotFoundError:  # the source tree is on the path, but not installed
    __version__ = "0+unknown"
