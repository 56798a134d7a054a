"""GRPO on text: seconds for a step, and until nine of ten additions are right, beside TRL's GRPOTrainer.

Both get the same model, problems, group size, lengths and settings, and the threads that torch takes by itself; a step
is measured with one thread as well, and with and without the compiled loops of the CPU. A step of a model with random
weights (0.87 M parameters, 600 tokens) completes 4 prompts 8 times in up to 32 tokens and takes one gradient step; flat
groups are not left out, lest there be nothing to do. The other contest begins with the base model of three-digit
addition.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from gridzero.agents import make
from gridzero.agents.agent import Agent
from gridzero.benchmarks.measure import Row, clock, installed, median_ratio, rounds
from gridzero.envs.tasks import Vocabulary
from gridzero.llm_rl import cpu_kernels
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer
from gridzero.process import keep_memory

ID = "gridzero/TextGeneration-v0"
PEER = "TRL's GRPOTrainer"
TOKENS = 600
WANTED = 0.9

Maker = Callable[..., Agent]


def rows(quick: bool) -> list[Row]:
    """All of the comparisons."""
    keep_memory()  # as commands do; the peer, in the same process, has it too
    makers: dict[str, Maker] = {"ours": ours}
    if installed("trl"):
        makers[PEER] = theirs
    threads, table = torch.get_num_threads(), []
    for count in dict.fromkeys((threads, 1)):
        torch.set_num_threads(count)
        try:
            table += _steps(makers, 1 if quick else 3, 6 if quick else 12)
        finally:
            torch.set_num_threads(threads)
    table += _kernels(2 if quick else 5, 6 if quick else 12)
    return table + _learning(makers, 1 if quick else 2)


def _steps(makers: Mapping[str, Maker], repeats: int, updates: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "model")
        parts: dict[str, list[float]] = {name: [] for name in makers}

        def measure(name: str) -> float:
            step, generation = seconds_per_step(makers[name], model, updates)
            parts[name].append(generation)
            return step

        figures = rounds({name: functools.partial(measure, name) for name in makers}, repeats)
        generation = {name: statistics.median(result) for name, result in parts.items()}
    note = f"generation {generation['ours'] * 1000:.0f} ms"
    if PEER in makers:
        note += f" against {generation[PEER] * 1000:.0f} ms"
    threads = torch.get_num_threads()
    work = f"a GRPO step: 32 completions of 32 tokens, {threads} thread{'s' if threads > 1 else ''}"
    return [_row(work, figures, 2.0, note)]


def _kernels(repeats: int, updates: int) -> list[Row]:
    """A step with all compiled loops of the CPU against one with none, and against one without those of each part."""
    left = {"none": "0"} | {
        f"all but {part}": ",".join(other for other in cpu_kernels.PARTS if other != part) for part in cpu_kernels.PARTS
    }
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder) / "model")

        def measure(value: str) -> float:
            before = os.environ.get(cpu_kernels.VARIABLE)
            os.environ[cpu_kernels.VARIABLE] = value
            try:
                return seconds_per_step(ours, model, updates)[0]
            finally:
                del os.environ[cpu_kernels.VARIABLE]
                if before is not None:
                    os.environ[cpu_kernels.VARIABLE] = before

        contenders = {"all": "1"} | left
        figures = rounds({name: functools.partial(measure, value) for name, value in contenders.items()}, repeats)
    mine = statistics.median(figures["all"])
    return [
        Row(
            "a GRPO step with all compiled loops",
            "s",
            mine,
            f"with {name}",
            statistics.median(figures[name]),
            median_ratio(figures[name], figures["all"]),
        )
        for name in left
    ]


def _learning(makers: Mapping[str, Maker], repeats: int) -> list[Row]:
    seeds = {name: iter(range(1_000_000)) for name in makers}
    taken: dict[str, list[int]] = {name: [] for name in makers}

    def measure(name: str) -> float:
        seconds, steps = seconds_to_learn(makers[name], next(seeds[name]))
        taken[name].append(steps)
        return seconds

    figures = rounds({name: functools.partial(measure, name) for name in makers}, repeats)
    counts = [f"{statistics.median(steps):,.0f}" for steps in taken.values()]
    note = f"after {' against '.join(counts)} completions"
    return [_row(f"GRPO on addition until {WANTED:.0%} are right", figures, 3.0, note)]


def _row(work: str, figures: Mapping[str, list[float]], bar: float, note: str) -> Row:
    mine = statistics.median(figures["ours"])
    if PEER not in figures:
        return Row(work, "s", mine, PEER, bar=bar, on="ratio", note=f"not installed; {note}")
    ratio = median_ratio(figures[PEER], figures["ours"])
    return Row(work, "s", mine, PEER, statistics.median(figures[PEER]), ratio, bar, "ratio", note)


# Measuring


def random_model(folder: Path) -> Path:
    """A model of 868,480 random weights, saved."""
    letters = "".join(chr(0x4E00 + i) for i in range(TOKENS))
    vocabulary = Vocabulary.of(("0123456789+=\n " + letters)[: TOKENS - len(Vocabulary.of("").tokens)])
    model = tiny_model(len(vocabulary), width=128, layers=4, heads=4, positions=128)
    save_model(model, character_tokenizer(vocabulary), folder)
    return folder


def seconds_per_step(maker: Maker, model: Path, updates: int) -> tuple[float, float]:
    """Median seconds of an update, and of the generation in it; the first two updates do not count."""
    generation: list[float] = []
    agent = maker(
        generation, groups=4, group_size=8, episode_limit=32, skip_flat_groups=False, policy={"model": str(model)}
    )
    agent.planned_steps = 32 * (updates + 2)
    times = []
    for _ in agent.learn():
        times.append(clock())
        if len(times) == updates + 2:
            break
    seconds = [after - before for before, after in itertools.pairwise(times[1:])]
    return statistics.median(seconds), statistics.median(generation[2 : updates + 2])


def seconds_to_learn(maker: Maker, seed: int) -> tuple[float, int]:
    """Seconds of learning, and completions, until the last 1,024 of them are right often enough; infinite if never.

    They are drawn from the policy, for new problems.
    """
    agent = maker([], seed=seed)
    agent.planned_steps = agent.default_steps
    before, steps, began = 0.0, 0, clock()
    for update in agent.learn():
        steps, accuracy = update.step, update.metrics["accuracy"]
        if (before + accuracy) / 2 >= WANTED:
            return clock() - began, steps
        before = accuracy
    return math.inf, steps


# Contenders: each notes the seconds of every generation.


def ours(generation: list[float], seed: int = 0, **fields: Any) -> Agent:
    """GRPO of gridzero."""
    agent: Any = make("grpo", _world(), seed=seed, **fields)
    agent.collector.episodes = _timed(agent.collector.episodes, generation)
    result: Agent = agent
    return result


def theirs(generation: list[float], seed: int = 0, **fields: Any) -> Agent:
    """GRPO of TRL, with the same settings."""
    from gridzero.llm_rl.integrations.trl_engine import TRLGRPO

    class Timed(TRLGRPO):
        """Notes how long its trainer generates."""

        def trainer(self, folder: Path) -> Any:
            result = super().trainer(folder)
            result._generate = _timed(result._generate, generation)
            return result

    env = _world()
    return Timed(env, Timed.Config(**{**Timed.defaults(env, fields), **fields}), seed=seed)


def _world() -> Any:
    return gym.make(ID, task="addition")


def _timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **keywords: Any) -> Any:
        began = clock()
        result = function(*arguments, **keywords)
        seconds.append(clock() - began)
        return result

    return timed
