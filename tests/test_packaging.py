"""What an installation consists of: the wheel, the bare install, the extras."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from sources import PACKAGES, ROOT, imports, modules

import agentwrap

PROVIDERS = metadata.packages_distributions()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXAMPLES = {f"agentwrap/{name}" for name in ("models/enduro-expert.safetensors", "models/enduro-novice.safetensors")}
EXAMPLES.add("agentwrap/enduro.mcap")

#: Checks in an environment that holds the wheel and its dependencies alone.
BARE = """
import importlib.util, sys
for extra in ("torch", "panel", "bokeh", "scipy", "ale_py"):
    assert importlib.util.find_spec(extra) is None, f"{extra} is installed: this environment is not bare"
from agentwrap import InterpretWrapper, PolicyTypeError
import agentwrap_protocol, agentwrap_viewer.cli, gymnasium
assert "/site-packages/" in agentwrap_protocol.__file__, agentwrap_protocol.__file__
try:
    InterpretWrapper(gymnasium.make("Blackjack-v1"), policy=object())
except PolicyTypeError as error:
    assert "torch.nn.Module" in str(error)
else:
    raise AssertionError("an object is no policy")
"""


def python(*arguments: str, executable: Path = Path(sys.executable), cwd: Path) -> str:
    result = subprocess.run([executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT), cwd=folder)
    (found,) = folder.glob("agentwrap_rl-*.whl")
    return found


@pytest.mark.timeout(300)
def test_the_wheel_holds_the_packages_and_the_examples_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names > EXAMPLES
    tops = {name.partition("/")[0] for name in names}
    assert tops == {*PACKAGES, f"agentwrap_rl-{agentwrap.__version__}.dist-info"}
    for package, directory in PACKAGES.items():
        kept = {f"{package}/{path.relative_to(directory)}" for path in source_files(directory)}
        assert kept == {name for name in names if name.startswith(f"{package}/")} - EXAMPLES


def source_files(directory: Path) -> list[Path]:
    """All files of a package: modules, the page's scripts and styles, markers."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return [path for path in files if not {"__pycache__", ".mypy_cache", ".ruff_cache"} & set(path.parts)]


@pytest.mark.timeout(300)
def test_a_bare_install_has_the_wrapper_and_no_torch(wheel: Path, tmp_path: Path) -> None:
    python("-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    executable = tmp_path / "venv/bin/python"
    python("-m", "pip", "install", "--quiet", str(wheel), executable=executable, cwd=tmp_path)
    python("-c", BARE, executable=executable, cwd=tmp_path)
    script = subprocess.run([tmp_path / "venv/bin/agentwrap", "demo"], capture_output=True, text=True, check=False)
    assert script.returncode != 0 and "pip install" in script.stderr and "Traceback" not in script.stderr


@pytest.mark.timeout(300)
def test_the_source_distribution_holds_what_a_reader_needs(tmp_path: Path) -> None:
    python("-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path), cwd=ROOT)
    (found,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "ARCHITECTURE.md", "protocol/SPEC.md", "tests/conftest.py"} < names


def test_the_version_has_one_source() -> None:
    assert metadata.version("agentwrap-rl") == agentwrap.__version__
    assert "version" in PROJECT["dynamic"]


#: Which of the extras each room may count on, beside the dependencies of the bare install.
EXTRAS = {
    "agentwrap_protocol": (),
    "agentwrap_protocol.mcap_encoder": ("record",),
    "agentwrap_export": ("torch",),
    "agentwrap": ("torch",),
    "agentwrap.adapters.torchrl": ("torch", "torchrl"),
    "agentwrap.torchrl": ("torch", "torchrl"),
    "agentwrap.callbacks": ("sb3",),
    "agentwrap.rllib": ("torch", "rllib"),
    "agentwrap.demo": ("torch", "atari"),
    "agentwrap_viewer": ("viewer", "export"),
    "agentwrap_viewer.commands.workers": ("viewer", "ray", "dask"),
}


@pytest.mark.parametrize("name", modules())
def test_what_a_module_imports_is_declared(name: str) -> None:
    room = max((room for room in EXTRAS if name == room or name.startswith(room + ".")), key=len)
    declared = [*PROJECT["dependencies"]]
    for extra in EXTRAS[room]:
        declared += PROJECT["optional-dependencies"][extra]
    distributions = {Requirement(each).name.lower() for each in declared}
    for target in imports(name, modules()[name]):
        top = target.partition(".")[0]
        if top in sys.stdlib_module_names or top.startswith("agentwrap"):
            continue
        names = {each.lower().replace("_", "-") for each in PROVIDERS.get(top, [top])}
        assert names & distributions, f"{name} imports {top}, which no dependency of its room declares"


def test_what_is_declared_is_imported() -> None:
    used = {target.partition(".")[0] for name, path in modules().items() for target in imports(name, path)}
    provided = {each.lower() for top in used for each in PROVIDERS.get(top, [top])}
    for extra in ("viewer", "atari", "torch", "record", "export"):
        for requirement in PROJECT["optional-dependencies"][extra]:
            assert Requirement(requirement).name.lower() in provided, f"{extra}: nothing imports {requirement}"
