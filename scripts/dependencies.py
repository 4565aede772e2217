"""Resolves the ranges of pyproject.toml with uv, for `scripts/lock` and for `scripts/test --latest` and `--oldest`.

write     resolve, run all tests with the result in an environment of its own, then replace requirements.lock
compare   list what is newer than requirements.lock; never fails
latest    run the tests with the newest versions that the ranges admit
oldest    run them with the oldest
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = Path("requirements.lock")
HELD_BACK = ("torch<2.15",)
"""Not yet in the lock; `scripts/test --latest` tests them. docs/decisions/dependencies.md has the reason."""
ENVIRONMENT = Path("src/speechmlp/environment.py")
PAGE = Path("docs/install.md")
HEADER = """\
# Exact versions of everything, for all extras and for Python 3.10 to 3.14 on Linux, macOS and Windows; the tests passed
# with them. scripts/lock writes this file, scripts/setup reads it. With pip: pip install -c requirements.lock '.[dev]'
"""


class CommandError(Exception):
    """Something that ends a command with one line."""


def uv(*arguments: str | Path) -> None:
    """Runs uv, quietly.

    Raises:
        CommandError: with what uv says first.
    """
    command = [sys.executable, "-m", "uv", "--quiet", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        raise CommandError(" ".join(lines[:3])[:400] or f"uv {arguments[0]} ended with status {result.returncode}")


def resolve(output: Path, resolution: str = "highest", held_back: bool = False) -> None:
    """Writes the resolution of all extras.

    Args:
        output: the file.
        resolution: highest for every platform and Python; lowest-direct for this one.
        held_back: whether `HELD_BACK` applies.
    """
    command: list[str | Path] = ["pip", "compile", "--all-extras", "--no-annotate", "--no-header"]
    command += [f"--resolution={resolution}", "pyproject.toml", f"--output-file={output}"]
    if resolution == "highest":
        command += ["--universal", "--python-version=3.10"]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(HELD_BACK) if held_back else "", encoding="utf-8")
        uv(*command, f"--constraints={constraints}")


def versions(lock: Path) -> dict[str, list[str]]:
    """Returns package -> versions of a lock, several where they depend on Python or the platform."""
    found: dict[str, list[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;]+)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def take_over(lock: Path, root: Path) -> None:
    """Writes requirements.lock, and its torch and torchaudio into environment.py and the page on installation."""
    environment = root / ENVIRONMENT
    # The first version is the oldest one, which fits every Python.
    torch, torchaudio = (versions(lock)[package][0] for package in ("torch", "torchaudio"))
    code = environment.read_text(encoding="utf-8")
    code = re.sub(r"(?<=TESTED_TORCH, TESTED_TORCHAUDIO = ).*", f'"{torch}", "{torchaudio}"', code)
    environment.write_text(code, encoding="utf-8")
    page = (root / PAGE).read_text(encoding="utf-8")
    page = re.sub(r"torch==\S+ torchaudio==\S+", f"torch=={torch} torchaudio=={torchaudio}", page)
    (root / PAGE).write_text(page, encoding="utf-8")
    (root / LOCK).write_text(HEADER + lock.read_text(encoding="utf-8"), encoding="utf-8")


def project_files() -> list[str]:
    """Returns the files of the checkout, relative to its root: tracked by git, or new and not ignored.

    Raises:
        CommandError: this is not a git checkout, or there is no git.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        problem = (listed.stderr.splitlines() or [f"git ended with status {listed.returncode}"])[0]
    except OSError as error:
        raise CommandError(
            f"git cannot be run ({error.strerror or error}); it lists the files that are tested"
        ) from error
    if listed.returncode:
        raise CommandError(f"{ROOT}: expected a git checkout, whose files are copied and tested ({problem})")
    return [name for name in listed.stdout.split("\0") if (ROOT / name).is_file()]


def run_tests(lock: Path, files: Sequence[str], arguments: Sequence[str]) -> None:
    """Runs `scripts/test` with the versions of a lock, in a copy of the checkout and a new environment.

    Args:
        lock: the versions.
        files: to copy, relative to the root of the checkout.
        arguments: of `scripts/test`.

    Raises:
        CommandError: the tests failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy, environment = Path(folder) / "speechmlp", Path(folder) / "environment"
        for name in files:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        if (shared := ROOT.parent / "shared").is_dir():  # recordings for the tests marked corpus
            (Path(folder) / "shared").symlink_to(shared)
        take_over(lock, copy)
        uv("venv", "--python", sys.executable, environment)  # without pip, so that scripts/setup installs by uv
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        variables = dict(os.environ) | {"VIRTUAL_ENV": str(environment), "PATH": search}
        tests = subprocess.run(["scripts/test", *arguments], cwd=copy, env=variables, check=False)
    if tests.returncode:
        raise CommandError(f"the tests failed with status {tests.returncode}")


def write() -> None:
    """Replaces requirements.lock, and the pair in environment.py, after all tests have passed."""
    files = project_files()
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / LOCK
        resolve(lock, held_back=True)
        run_tests(lock, files, ["--all"])
        take_over(lock, ROOT)
    print(f"Wrote {LOCK}: {len(versions(ROOT / LOCK))} packages")


def compare() -> None:
    """Prints what is newer than requirements.lock."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / LOCK
        try:
            resolve(new)
        except (CommandError, OSError) as error:
            print(f"requirements.lock was not compared with the package index: {error}")
            return
        locked, newest = versions(ROOT / LOCK), versions(new)
    changes = [
        f"  {package}: {', '.join(locked.get(package, ['-']))} -> {', '.join(newest.get(package, ['-']))}"
        for package in sorted(locked.keys() | newest.keys())
        if locked.get(package) != newest.get(package)
    ]
    if changes:
        print("Newer than requirements.lock (scripts/test --latest tries them, scripts/lock takes them over):")
        print("\n".join(changes))
    else:
        print("requirements.lock is up to date")


def test(which: str, arguments: Sequence[str]) -> None:
    """Runs the tests with the newest or the oldest versions that the ranges admit."""
    files = project_files()
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / f"{which}.lock"
        resolve(lock, "highest" if which == "latest" else "lowest-direct")
        # Types are checked with one numpy and one mypy, the lock's: older ones know less.
        run_tests(lock, files, arguments if which == "latest" else ["--no-check", *arguments])


def main() -> int:
    """Runs a command and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("write", "compare", "latest", "oldest"))
    arguments, rest = parser.parse_known_args()
    try:
        if arguments.command == "write":
            write()
        elif arguments.command == "compare":
            compare()
        else:
            test(arguments.command, rest)
    except (CommandError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
