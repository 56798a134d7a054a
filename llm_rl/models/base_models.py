"""Tiny base models: a small transformer warmed up on a task's own worked solutions, cached on disk.

The cache is ``$GRIDZERO_CACHE``, by default ``~/.cache/gridzero``; the base model of the default task comes with the
package. ``python -m gridzero.llm_rl.models.base_models TASK --out FOLDER`` makes one anew.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.task import Task
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.models.causal import output_head, tiny_model
from gridzero.llm_rl.models.pretrained import load_model, save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.llm_rl.scoring.packed_forward import packed_forward
from gridzero.llm_rl.scoring.packing import Packing
from gridzero.llm_rl.scoring.token_log_probs import token_log_probs

_LOOKED_AT = 1000
SHIPPED = Path(__file__).parent / "base-models"


@dataclass(frozen=True)
class Recipe:
    """Sizes and training settings of a base model."""

    width: int = 64
    """Of the residual stream."""
    layers: int = 3
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    steps: int = 1000
    """Gradient steps of the warm-up."""
    batch: int = 128
    """Demonstrations in each."""
    learning_rate: float = 3e-3
    """Adam's at its height, after a rise over a twentieth of the steps; then it falls to 0 as a cosine."""
    seed: int = 0
    """Decides everything that is random."""


RECIPES = {
    "countdown": Recipe(steps=12_000, batch=32),
    "multiplication": Recipe(steps=5000, batch=32),
    "grid-path": Recipe(steps=4000, batch=32),
}
"""Of tasks that take longer to learn."""


def base_model(task: Task, recipe: Recipe | None = None) -> tuple[Any, Any]:
    """The base model of a task, with its tokenizer: shipped, cached, or warmed up now.

    Raises:
        ValueError: for a task without worked solutions.
    """
    recipe = recipe or RECIPES.get(task.name, Recipe())
    name = base_name(task, recipe)
    for folder in (SHIPPED / name, cache() / name):
        if folder.is_dir():
            return load_model(str(folder), dtype=torch.float32, device=torch.device("cpu"))
    report = _reporter(f"warming up a tiny model on solutions of {task.name}")
    model, tokenizer = warm_up(task, recipe, report)
    with contextlib.suppress(ValueError):  # another process may have been faster
        save_model(model, tokenizer, cache() / name)
    return model, tokenizer


def base_name(task: Task, recipe: Recipe) -> str:
    """A name that depends on the task, its options and the recipe."""
    options = {name: value for name, value in vars(task).items() if isinstance(value, int | float | str | bool)}
    options.pop("split", None)
    record = json.dumps([options, task.template.name, asdict(recipe)], sort_keys=True)
    return f"{task.name}-{hashlib.sha256(record.encode()).hexdigest()[:12]}"


def cache() -> Path:
    """The folder of base models warmed up earlier."""
    return Path(os.environ.get("GRIDZERO_CACHE", "~/.cache/gridzero")).expanduser()


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
    tokenizer = character_tokenizer(vocabulary)
    sampler, initial = np.random.SeedSequence(recipe.seed).spawn(2)
    rng = np.random.default_rng(sampler)
    longest = max(len(_demonstration(task, vocabulary, rng)[0]) for _ in range(_LOOKED_AT))
    model = tiny_model(
        len(vocabulary),
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        positions=2 * longest + 64 if task.turns == 1 else 8 * longest + 64,
        seed=int(initial.generate_state(1)[0]),
    )
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    for step in range(recipe.steps):
        progress = (step + 1) / recipe.steps
        factor = min(1.0, 20 * progress) * 0.5 * (1 + np.cos(np.pi * progress))
        optimiser.param_groups[0]["lr"] = recipe.learning_rate * factor
        optimiser.zero_grad(set_to_none=True)
        loss = _loss(model, [_demonstration(task, vocabulary, rng) for _ in range(recipe.batch)], vocabulary.pad)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if report is not None:
            report(step + 1, recipe.steps, float(loss.detach()))
    return model.eval(), tokenizer


def _demonstration(task: Task, vocabulary: Vocabulary, rng: np.random.Generator) -> tuple[list[int], list[bool]]:
    """Tokens of a prompt and a worked solution, or a whole conversation, and which of them are the solver's."""
    problem = task.sample(rng)
    tokens = vocabulary.encode(task.prompt(problem))
    own = [False] * len(tokens)
    completions: list[str] = []
    reply: str | None = ""
    while reply is not None:
        heard = vocabulary.encode(reply)
        completions.append(task.demonstrate(problem, rng, completions))
        said = [*vocabulary.encode(completions[-1]), vocabulary.end]
        tokens += heard + said
        own += [False] * len(heard) + [True] * len(said)
        reply = task.reply(problem, completions)
    return tokens, own


def _loss(model: Any, demonstrations: Sequence[tuple[list[int], list[bool]]], pad: int) -> Tensor:
    """Mean over the solutions' tokens of -log p, in nats."""
    lengths = torch.tensor([len(tokens) for tokens, _ in demonstrations])
    width = int(lengths.max())
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row, _ in demonstrations])
    own = torch.tensor([mask + [False] * (width - len(mask)) for _, mask in demonstrations])
    packing = Packing.of(tokens[:, :-1], own.int().argmax(dim=1), lengths - 1)
    states = packed_forward(model, packing)
    assert states is not None  # all tiny models are of the Llama family
    head = output_head(model)
    log_probs, _ = token_log_probs(states[packing.places[own[:, 1:]]], head.weight, tokens[own], bias=head.bias)
    return -log_probs.mean()


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
    parser = argparse.ArgumentParser("python -m gridzero.llm_rl.models.base_models", description=main.__doc__)
    parser.add_argument("task")
    parser.add_argument("--out", type=Path, help="folder; by default among those that come with the package")
    arguments = parser.parse_args(argv)
    task = make_task(arguments.task)
    recipe = RECIPES.get(task.name, Recipe())
    out = arguments.out or SHIPPED / base_name(task, recipe)
    if out.exists():
        parser.error(f"{out} exists")
    model, tokenizer = warm_up(task, recipe, _reporter(f"warming up a tiny model on solutions of {task.name}"))
    save_model(model, tokenizer, out)
    print(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
