"""Supervised fine-tuning of a language model on the worked solutions of a task."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import tyro
from gymnasium import spaces

from gridzero.agents.agent import Agent
from gridzero.agents.learner import Update
from gridzero.agents.neural.distributed import process_group
from gridzero.envs.tasks.task import Task
from gridzero.llm_rl.learners.supervised import SupervisedTrainer, demonstrate, warm_cosine
from gridzero.llm_rl.models.base_models import untrained_model
from gridzero.llm_rl.models.pretrained import load_model
from gridzero.llm_rl.policies.language_options import device_of, dtype_of, language_options
from gridzero.llm_rl.policies.language_policy import LanguagePolicy

Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class SFTConfig:
    """Settings of supervised fine-tuning."""

    minibatch_size: int = 128
    """Demonstrations in a gradient step."""
    gradient_steps: int = 10
    """Gradient steps in an update."""
    learning_rate: float = 3e-3
    """AdamW's at its height; by default 1e-5 for a model that is given."""
    learning_rate_schedule: Schedule = "cosine"
    """"cosine": a rise over a twentieth of schedule_steps, then a cosine down to 0, where learning ends; or
    "constant"."""
    schedule_steps: int | None = None
    """Demonstrations that the schedule spans; by default the budget, without one 128,000."""
    width: int = 64
    """Of the residual stream of a new tiny model, which is trained where --policy.model names none."""
    layers: int = 3
    """Transformer blocks of a new tiny model."""
    heads: int = 4
    """Attention heads of a new tiny model."""
    episode_limit: int = 1000
    """Tokens that the model may write in one conversation when it acts."""
    policy: Annotated[Mapping[str, Any], tyro.conf.Suppress] = dataclasses.field(default_factory=dict)
    """Options of the language model: on the command line, --policy.KEY VALUE."""

    def __post_init__(self) -> None:
        """Raise ValueError for a setting that is out of range."""
        for name in ("minibatch_size", "gradient_steps", "learning_rate", "width", "layers", "heads", "episode_limit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.schedule_steps is not None and self.schedule_steps < 1:
            raise ValueError(f"schedule_steps must be at least 1, not {self.schedule_steps}")
        if self.learning_rate_schedule not in get_args(Schedule):
            allowed = ", ".join(get_args(Schedule))
            raise ValueError(f"learning_rate_schedule must be one of {allowed}, not {self.learning_rate_schedule!r}")


class SFT(Agent):
    """A language model that learns to write the solutions which a task demonstrates.

    A step is a demonstration of a fresh random problem. The loss is the mean of -log p over the tokens of completions,
    end tokens included; prompts and the task's replies are only read. Greedy completions are what it acts with.

    Metrics: loss in nats a token, token_accuracy (the share of tokens that the model found most likely), learning_rate,
    gradient_norm; the first three are means over the update's gradient steps.

    Args:
        env: an environment of texts with a task, such as ``gridzero/TextGeneration-v0``.
        config: the settings.
        seed: decides everything that is random.

    Attributes:
        network: the model as a :class:`LanguagePolicy`.
        steps: demonstrations seen.

    Raises:
        ValueError: for an environment without a task, or a task without worked solutions.

    Example:
        >>> import gymnasium as gym, gridzero
        >>> env = gym.make("gridzero/TextGeneration-v0", task="addition", digits=1)
        >>> agent = gridzero.agents.make("sft", env, width=8, layers=1, heads=2, minibatch_size=8)
        >>> update = next(agent.learn())
        >>> update.step, sorted(update.metrics)
        (80, ['gradient_norm', 'learning_rate', 'loss', 'token_accuracy'])
    """

    Config = SFTConfig
    config: SFTConfig
    default_steps: int = 128_000

    def __init__(self, env: Any, config: SFTConfig, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        if process_group().world_size > 1:
            raise ValueError("sft learns in one process; start it without torchrun")
        self.task = _task(env)
        sampler, initial, of_adapters = np.random.SeedSequence(seed).spawn(3)
        self.rng = np.random.default_rng(sampler)
        options = language_options(config.policy)
        device = device_of(options.device)
        dtype = dtype_of(options.dtype, device)
        if options.model is None:
            model, tokenizer = untrained_model(
                self.task,
                self.rng,
                width=config.width,
                layers=config.layers,
                heads=config.heads,
                seed=int(initial.generate_state(1)[0]),
            )
            model = model.to(device=device, dtype=dtype)
        else:
            self.task.demonstrate(self.task.sample(np.random.default_rng(seed)), np.random.default_rng(seed))
            model, tokenizer = load_model(options.model, dtype=dtype, device=device)
        self.network = LanguagePolicy(
            model, tokenizer, options, limit=config.episode_limit, seed=int(of_adapters.generate_state(1)[0])
        )
        self.trainer = SupervisedTrainer(self.network.model, self.network.trained(), self.network.pad)
        self.steps = 0

    @classmethod
    def defaults(cls, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The limit that is usual for the task, and a small learning rate and batch for a model that is given."""
        limit = LanguagePolicy.defaults("GRPO", env, fields)["episode_limit"] if _speaks(env) else 1000
        pretrained = fields.get("policy", {}).get("model") is not None
        return {"episode_limit": limit} | ({"learning_rate": 1e-5, "minibatch_size": 32} if pretrained else {})

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per ``gradient_steps``; ends with the schedule, if there is one."""
        config, policy = self.config, self.network
        while self.steps < self._span():
            metrics: list[dict[str, float]] = []
            while len(metrics) < config.gradient_steps and self.steps < self._span():
                batch = [
                    demonstrate(self.task, self.rng, policy.encode, policy.end[0]) for _ in range(config.minibatch_size)
                ]
                self.steps += len(batch)
                learning_rate = config.learning_rate * self._factor()
                metrics.append(self.trainer.step(batch, learning_rate))
            means = {name: float(np.mean([one[name] for one in metrics])) for name in metrics[0]}
            yield Update(self.steps, means | {"learning_rate": learning_rate})

    def _span(self) -> float:
        """Demonstrations until learning ends; infinite with a constant learning rate or a budget of seconds alone."""
        if self.config.learning_rate_schedule == "constant":
            return math.inf
        return self.config.schedule_steps or self.planned_steps or self.default_steps

    def _factor(self) -> float:
        """The learning rate's factor in the gradient step that ends at ``steps``."""
        if math.isinf(self._span()):
            return 1.0
        size = self.config.minibatch_size
        return warm_cosine(self.steps / (math.ceil(self._span() / size) * size))

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """A completion for each text: the most likely tokens, or drawn ones to explore."""
        completions, _ = self.network.act(observations, None, self.rng if explore else None)
        return completions

    def state_dict(self) -> dict[str, Any]:
        """Optimiser, generator and count of demonstrations; the model is among the artifacts."""
        return {"optimiser": self.trainer.state_dict(), "rng": self.rng.bit_generator.state, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.trainer.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.steps = int(state["steps"])

    def save_artifacts(self, folder: Path) -> None:
        """Write the model in Hugging Face's format."""
        self.network.save_artifacts(folder)

    def load_artifacts(self, folder: Path) -> None:
        """Continue from the model that :meth:`save_artifacts` wrote into ``folder``."""
        self.network.load_artifacts(folder)


def _speaks(env: Any) -> bool:
    space = getattr(env, "single_observation_space", None) or getattr(env, "observation_space", None)
    return isinstance(space, spaces.Text)


def _task(env: Any) -> Task:
    """The task of an environment of texts."""
    task = getattr(getattr(env, "unwrapped", env), "task", None)
    if not _speaks(env) or not isinstance(task, Task):
        raise ValueError(
            "sft learns from the worked solutions of a text task; give it gridzero/TextGeneration-v0 --env.task NAME"
        )
    return task
