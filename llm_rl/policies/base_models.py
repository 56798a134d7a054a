"""Tiny base models: a small transformer warmed up on a task's own worked solutions, cached on disk.

The cache is ``$GRIDZERO_CACHE``, by default ``~/.cache/gridzero``; the base model of the default task comes with the
package. ``python -m gridzero.llm_rl.policies.base_models TASK --out FOLDER`` makes one anew.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gridzero.agents.neural.muon import hidden_matrices
from gridzero.agents.neural.optimiser import Optimiser
from gridzero.agents.neural.schedules import OPTIMISER, Optimisation, warm_cosine
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.task import Task
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.data.examples import demonstrate
from gridzero.llm_rl.models.cache import cache
from gridzero.llm_rl.models.causal import Architecture, tiny_model
from gridzero.llm_rl.models.experts import ExpertBalance
from gridzero.llm_rl.models.image_text import seeing_model, tiny_image_text_model
from gridzero.llm_rl.models.pretrained import SHIPPED, load_image_text_model, load_model, save_model
from gridzero.llm_rl.models.rendering import PlainRenderer, Renderer
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.scoring.completions import completion_loss

_MEASURED = 1000


@dataclass(frozen=True)
class Recipe:
    """Sizes and training settings of a base model."""

    width: int = 64
    """Of the residual stream."""
    layers: int = 3
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    text: Architecture = "llama"
    """Architecture of the language model."""
    steps: int = 1000
    """Gradient steps of the warm-up."""
    worked: int = 0
    """The first of them, on which all demonstrations are worked out."""
    batch: int = 128
    """Demonstrations in each."""
    learning_rate: float = 3e-3
    """Adam's at its height, after a rise over a twentieth of the steps; then it falls to 0 as a cosine."""
    seed: int = 0
    """Decides everything that is random."""
    optimiser: Optimisation = "adamw"
    """Of the matrices."""


RECIPES = {
    "countdown": Recipe(steps=5000, batch=32, worked=4400, optimiser="muon"),
    "multiplication": Recipe(steps=5000, batch=32),
    "grid-path": Recipe(steps=6000, batch=32),
}
"""Of tasks that take longer to learn."""


_ADDED = ("system", "pixels", "transcribe", "search", "direct")
"""Options that came later, and say nothing where they are not used: base models made before keep their names."""


def base_model(task: Task, recipe: Recipe | None = None, *, text: Architecture = "llama") -> tuple[Any, Any]:
    """The base model of a task, with its tokenizer: shipped, cached, or warmed up now.

    Args:
        task: the task.
        recipe: sizes and training; by default what is usual for the task.
        text: architecture of the language model, where no recipe says so.

    Raises:
        ValueError: for a task without worked solutions.
    """
    recipe = recipe or usual_recipe(task, text)
    name = base_name(task, recipe)
    load = load_model if task.picture_shape is None else load_image_text_model
    for folder in (SHIPPED / name, cache() / name):
        if folder.is_dir():
            return load(str(folder), dtype=torch.float32, device=torch.device("cpu"))
    report = _reporter(f"warming up a tiny model on solutions of {task.name}")
    model, tokenizer = warm_up(task, recipe, report)
    with contextlib.suppress(ValueError):  # another process may have been faster
        save_model(model, tokenizer, cache() / name)
    model.name_or_path = str(cache() / name)
    return model, tokenizer


def usual_recipe(task: Task, text: Architecture = "llama") -> Recipe:
    """Sizes and training that are usual for a task."""
    recipe = replace(RECIPES.get(task.name, Recipe()), text=text)
    return recipe if task.picture_shape is None else replace(recipe, optimiser="muon")


def base_name(task: Task, recipe: Recipe) -> str:
    """A name that depends on the task, its options and the recipe."""
    options = {name: value for name, value in vars(task).items() if isinstance(value, int | float | str | bool)}
    options.pop("split", None)
    for name in _ADDED:
        if not options.get(name, True):
            del options[name]
    settings = asdict(recipe)
    for setting, unsaid in (("text", "llama"), ("worked", 0), ("optimiser", "adamw")):
        if settings[setting] == unsaid:
            del settings[setting]
    record = json.dumps([options, task.template.name, settings], sort_keys=True)
    return f"{task.name}-{hashlib.sha256(record.encode()).hexdigest()[:12]}"


def warm_up(task: Task, recipe: Recipe, report: Callable[[int, int, float], None] | None = None) -> tuple[Any, Any]:
    """A tiny model, trained to write the solutions that the task demonstrates.

    Args:
        task: with training problems.
        recipe: how.
        report: told the step, the number of steps and the loss in nats a token.

    Returns:
        Model and tokenizer.
    """
    vocabulary = Vocabulary.for_task(task)
    sampler, initial = np.random.SeedSequence(recipe.seed).spawn(2)
    rng = np.random.default_rng(sampler)
    model, tokenizer = untrained_model(
        task,
        rng,
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        text=recipe.text,
        seed=int(initial.generate_state(1)[0]),
    )
    weights = list(model.parameters())
    matrices = hidden_matrices(model, weights) if recipe.optimiser == "muon" else ()
    optimiser = Optimiser(weights, **OPTIMISER, matrices=matrices)
    causal = model if task.picture_shape is None else seeing_model(model)
    renderer = _renderer(vocabulary, task, causal)
    balance = ExpertBalance(causal)
    worked = copy(task)
    worked.worked = 1.0
    for step in range(1, recipe.steps + 1):
        shown = worked if step <= recipe.worked else task
        batch = [demonstrate(shown, rng, renderer) for _ in range(recipe.batch)]
        with balance.counting([len(one.tokens) - 1 for one in batch]):
            loss, _ = completion_loss(causal, batch, vocabulary.pad)
        factor = warm_cosine(step / recipe.steps)
        optimiser.step([loss], recipe.learning_rate * factor)
        balance.step(factor)
        if report is not None:
            report(step, recipe.steps, float(loss.detach()))
    return model.eval(), tokenizer


def untrained_model(
    task: Task,
    rng: np.random.Generator,
    *,
    width: int,
    layers: int,
    heads: int,
    text: Architecture = "llama",
    seed: int,
) -> tuple[Any, Any]:
    """A tiny model with random weights that has room for a task's conversations, and its tokenizer.

    Args:
        task: its alphabet is the vocabulary.
        rng: draws the demonstrations that are measured.
        width: see :func:`tiny_model`.
        layers: see :func:`tiny_model`.
        heads: see :func:`tiny_model`.
        text: architecture of the language model.
        seed: decides the weights.

    Raises:
        ValueError: for a task without worked solutions, or sizes that do not fit.
    """
    vocabulary = Vocabulary.for_task(task)
    sizes: dict[str, Any] = {"width": width, "layers": layers, "heads": heads, "seed": seed}
    if task.picture_shape is None:
        positions = _positions(task, rng, _renderer(vocabulary, task))
        model = tiny_model(len(vocabulary), positions=positions, architecture=text, **sizes)
    else:
        sizes["text"] = text
        patch = task.picture_tile // 2
        model = tiny_image_text_model(len(vocabulary), task.picture_shape, positions=1, patch=patch, **sizes)
        positions = _positions(task, rng, _renderer(vocabulary, task, seeing_model(model)))
        model = tiny_image_text_model(len(vocabulary), task.picture_shape, positions=positions, patch=patch, **sizes)
    return model, character_tokenizer(vocabulary)


def _positions(task: Task, rng: np.random.Generator, renderer: Renderer) -> int:
    """Positions that a task's conversations have room in."""
    longest = max(len(demonstrate(task, rng, renderer).tokens) for _ in range(_MEASURED))
    return 2 * longest + 64 if task.turns == 1 else 8 * longest + 64


def _renderer(vocabulary: Vocabulary, task: Task, model: Any = None) -> Renderer:
    """Texts in tokens of the vocabulary, which is faster than its tokenizer; there is no mark of a beginning."""

    def encode(text: str, *, begins: bool) -> list[int]:
        return vocabulary.encode(text)

    renderer = PlainRenderer(encode, vocabulary.end, task.system)
    if model is not None:
        pictures = getattr(model, "pictures", None)
        renderer.see = None if pictures is None else pictures.tokens
    return renderer


def _reporter(what: str) -> Callable[[int, int, float], None] | None:
    """A bar on a terminal, one line elsewhere."""
    if not sys.stderr.isatty():
        print(f"gridzero: {what}; it is kept in {cache()}", file=sys.stderr)
        return None
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    bar.start()
    task = bar.add_task(what)

    def report(step: int, steps: int, loss: float) -> None:
        bar.update(task, completed=step, total=steps, description=f"{what}, loss {loss:.3f}")
        if step == steps:
            bar.stop()

    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Make a base model and save it in Hugging Face's format."""
    parser = argparse.ArgumentParser("python -m gridzero.llm_rl.policies.base_models", description=main.__doc__)
    parser.add_argument("task")
    parser.add_argument("--out", type=Path, help="folder; by default among those that come with the package")
    arguments = parser.parse_args(argv)
    task = make_task(arguments.task)
    recipe = usual_recipe(task)
    out = arguments.out or SHIPPED / base_name(task, recipe)
    if out.exists():
        parser.error(f"{out} exists")
    model, tokenizer = warm_up(task, recipe, _reporter(f"warming up a tiny model on solutions of {task.name}"))
    save_model(model, tokenizer, out)
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
