"""Lists the commands: `python -m speechmlp`."""

import sys

from speechmlp import __version__

COMMANDS = {
    "train": "train a classifier from a config file",
    "evaluate": "report the accuracy of a trained classifier",
    "predict": "say which letters recordings hold",
    "serve": "open a page where you say a letter",
    "export": "write a model for ONNX Runtime or LibTorch",
    "audit": "check a corpus before training",
    "record": "record letters from the microphone",
}


def main() -> int:
    """Prints the commands and returns the exit status."""
    print(f"speechmlp {__version__}: recognise spoken letters with multilayer perceptrons\n")
    for name, purpose in COMMANDS.items():
        print(f"  python -m speechmlp.{name:<10} {purpose}")
    print("\nEach explains itself with --help.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
