"""The built wheel, installed in an environment of its own: everything works outside the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from speechmlp.config.loading import shipped_configs
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

BUILT = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "src", "configs")
UV = (sys.executable, "-m", "uv")


def call(*command: str | Path, folder: Path) -> str:
    """Runs a command without the checkout on its path, and returns its output."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution."""
    folder = tmp_path_factory.mktemp("build")
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    for name in BUILT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "source" / name, ignore=ignored)
        else:
            (folder / "source").mkdir(exist_ok=True)
            shutil.copy(source, folder / "source")
    options = ["--quiet", "--offline", "--no-build-isolation", "--python", sys.executable]
    call(*UV, "build", *options, "--out-dir", folder, folder / "source", folder=folder)
    (built,) = folder.glob("speechmlp-*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and the packages of this environment but for speechmlp."""
    folder = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(folder, with_pip=False, symlinks=os.name == "posix")
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / Path(sys.executable).name
    packages = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip())
    others = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (packages / "others.pth").write_text("".join(f"{path}\n" for path in others), encoding="utf-8")
    call(*UV, "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", python, wheel, folder=folder)
    found = call(python, "-c", "import speechmlp; print(speechmlp.__file__)", folder=folder)
    assert Path(found.strip()).is_relative_to(folder)
    return programs


def test_the_wheel_holds_every_module_configuration_and_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src" / "speechmlp"
    wanted = {f"speechmlp/configs/{name}.yaml" for name in shipped_configs()}
    for path in source.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            wanted.add(f"speechmlp/{path.relative_to(source).as_posix()}")
    assert {name for name in names if name.startswith("speechmlp/")} == wanted


def test_prepare_train_evaluate_predict_and_sweep(scripts: Path, tmp_path: Path) -> None:
    program = scripts / "speechmlp"
    prepared = call(program, "prepare", "synthetic", "--speakers", "20", "--takes", "1", folder=tmp_path)
    assert "Synthetic: 520 letters of 20 speakers" in prepared
    small = ["training.epochs=2", "model.hidden=[16]", "device=cpu"]
    assert "epoch 2/2" in call(program, "train", "--config", "quickstart", *small, folder=tmp_path)
    assert "Accuracy: " in call(program, "evaluate", folder=tmp_path)
    clip = next((tmp_path / "data" / "synthetic").rglob("*.wav"))
    assert str(clip) in call(program, "predict", clip, folder=tmp_path)
    sweep: list[str | Path] = [program, "sweep", "--config", "quickstart", "--name", "widths", "--seeds", "1"]
    axes = ["model.hidden=[4];[8]", *(value for value in small if "hidden" not in value)]
    swept = call(*sweep, *(word for axis in axes for word in ("--set", axis)), folder=tmp_path)
    assert swept.startswith("2 runs in runs/widths; compare them: speechmlp compare runs/widths/*")
    table = call(program, "compare", *sorted((tmp_path / "runs" / "widths").iterdir()), folder=tmp_path)
    assert ["hidden-_4" in table.splitlines()[2], "hidden-_8" in table.splitlines()[3]] == [True, True], table
    assert "no p smaller than 1.000 is possible" in table
