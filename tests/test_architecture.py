"""The layout of the repository holds: dependencies run one way, everything is packaged, importing stays light."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ["envs", "agents", "llm_rl", "scripts"]


def modules() -> list[Path]:
    return [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_run_from_scripts_to_envs(path: Path) -> None:
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "gridzero" or len(parts) < 2:
            assert parts[0] not in LAYERS, f"{path} imports {name}: it is installed as gridzero.{name}"
            continue
        other = LAYERS.index(parts[1]) if parts[1] in LAYERS else LAYERS.index("scripts")
        assert other <= layer, f"{path} imports {name}"


def test_pygame_is_imported_by_the_renderer_alone() -> None:
    for path in modules():
        if "rendering" not in path.parts:
            assert not any(name.split(".")[0] == "pygame" for name in imported(path)), path


def test_every_folder_with_modules_is_installed() -> None:
    for path in modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[:2] == ("scripts", "examples"):
            continue
        name = ".".join(["gridzero", *(parts[1:] if parts[0] == "scripts" else parts)]).removesuffix(".__init__")
        assert importlib.util.find_spec(name) is not None, name


def test_importing_gridzero_stays_light() -> None:
    heavy = ["torch", "numba", "pygame", "matplotlib", "transformers", "stable_baselines3", "tensorboard"]
    code = f"import sys, gridzero; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
