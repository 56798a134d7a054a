"""The layout of the repository holds: dependencies run one way, everything is packaged, importing stays light."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ["envs", "agents", "llm_rl", "scripts"]
LONGEST = 400
ORDER: list[list[str]] = [
    ["agents"],
    ["agents/tabular"],
    ["agents/episodes", "agents/evaluation"],
    ["agents/periodic_evaluation", "agents/training"],
    [
        "agents/neural/batches",
        "agents/neural/choices",
        "agents/neural/distributed",
        "agents/neural/muon",
        "agents/neural/objectives",
        "agents/neural/optimiser",
        "agents/neural/policy",
        "agents/neural/preference_objectives",
        "agents/neural/running_mean_std",
        "agents/neural/schedules",
    ],
    ["agents/neural/networks"],
    ["agents/neural"],
    ["agents/neural/sb3"],
    ["agents/search"],
    ["llm_rl/cpu_kernels"],
    ["llm_rl/models"],
    ["llm_rl/decoding"],
    ["llm_rl/rollouts/conversations"],
    ["llm_rl/data/examples"],
    ["llm_rl/scoring"],
    ["llm_rl/policies"],
    ["llm_rl/data"],
    ["llm_rl/rollouts"],
    ["llm_rl/search"],
    ["llm_rl/learners"],
    ["llm_rl/integrations"],
]
"""Folders of agents and llm_rl, the lowest first; a module named for itself is lower or higher than its folder."""


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


def level(module: str) -> int:
    """The place of ``agents/tabular/solver`` in the order: that of the longest name that it begins with."""
    places = {name: i for i, names in enumerate(ORDER) for name in names}
    parts = module.split("/")
    for end in range(len(parts), 0, -1):
        if "/".join(parts[:end]) in places:
            return places["/".join(parts[:end])]
    raise AssertionError(f"ORDER in {Path(__file__).name} does not say where {module} is")


def module_of(name: str) -> str | None:
    """``agents/tabular/solver`` for ``gridzero.agents.tabular.solver.solve``; None for another library."""
    parts = name.split(".")[1:] if name.startswith("gridzero.") else []
    while parts and not ((ROOT / "/".join(parts)).is_dir() or (ROOT / f"{'/'.join(parts)}.py").is_file()):
        parts = parts[:-1]
    return "/".join(parts) or None


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in modules()
        if path.name != "__init__.py" and path.relative_to(ROOT).parts[0] in ("agents", "llm_rl")
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_folders_depend_downwards(path: Path) -> None:
    """A package's ``__init__`` may gather from below: it offers names, and nothing in the package needs it."""
    module = str(path.relative_to(ROOT).with_suffix(""))
    for name in imported(path):
        other = module_of(name)
        if other is not None and other.split("/")[0] in ("agents", "llm_rl") and "/" in other:
            assert level(other) <= level(module), f"{path} imports {name}, which is above it"


def test_modules_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert not [name for name, length in lengths.items() if length > LONGEST]


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


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["train", "--help"], ["train", "q-learning", "--help"], ["plot", "--help"], ["runs", "list"]],
    ids=" ".join,
)
def test_commands_that_compute_nothing_stay_light(arguments: list[str]) -> None:
    heavy = ["torch", "pygame", "matplotlib", "transformers", "scipy.stats", "sympy", "tensorboard"]
    code = f"""
import sys
from gridzero.__main__ import main
main({arguments!r})
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_settings_are_known_without_torch() -> None:
    """Of SB3's agents too, whose settings are read from the source of its classes."""
    code = """
import sys
from gridzero.agents.registry import REGISTRY
known = [entry.config_class() for entry in REGISTRY.values()]
print(len(known), [name for name in ("torch", "transformers", "scipy.stats") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, _, heavy = done.stdout.strip().partition(" ")
    assert int(count) > 30
    assert heavy == "[]"


def test_the_page_names_files_that_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    paths = [f"/{path.relative_to(ROOT)}" for path in [*modules(), Path(__file__), ROOT / "setup.py"]]
    assert not [name for name in named if not any(path.endswith(f"/{name}") for path in paths)]
