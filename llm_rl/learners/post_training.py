"""Base of the learners that post-train a language model on examples: settings, the loop, state."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from gymnasium import spaces
from torch import Tensor, nn

from gridzero.agents.agent import Agent
from gridzero.agents.learner import Update
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.muon import hidden_matrices
from gridzero.agents.neural.optimiser import Optimiser
from gridzero.agents.neural.schedules import OPTIMISER, warm_cosine
from gridzero.envs.tasks.task import Task
from gridzero.llm_rl.policies.language_options import language_options
from gridzero.llm_rl.policies.language_policy import LanguagePolicy
from gridzero.llm_rl.policies.vision_language_policy import VisionLanguagePolicy
from gridzero.llm_rl.rollouts.metrics import CONVERSATION_METRICS

Item = TypeVar("Item")
Terms = Mapping[str, Tensor]
_ENDLESS = 1 << 30


class Batch(NamedTuple, Generic[Item]):
    """Examples of one gradient step.

    Attributes:
        items: the examples.
        steps: what they add to the count of steps.
    """

    items: Sequence[Item]
    steps: int


class PostTrainingLearner(Agent, Generic[Item]):
    """A learner that takes gradient steps on minibatches of examples.

    A subclass says where they come from (:meth:`batches`) and what their loss is (:meth:`loss`).

    Args:
        env: an environment of texts with a task, such as ``gridzero/TextGeneration-v0``.
        config: the settings.
        seed: decides everything that is random.

    Attributes:
        task: of the environment.
        network: the language model that acts, as a :class:`LanguagePolicy`.
        max_length: tokens of an example that are read at most; a learned prompt or prefix takes from them.
        rng: the generator of everything the learner draws.
        steps: examples seen, or, where the model writes them itself, completions written.
        metrics: what the subclass has to log in this update, besides the means of its loss's terms.
        samples: what it has to show.

    Raises:
        ValueError: for an environment without a task, or settings that do not fit.
    """

    config: Any
    default_steps: int = 128_000
    sees: ClassVar[bool] = False
    """Whether it takes tasks with pictures too."""
    logs: ClassVar[frozenset[str] | None] = None
    """Names of metrics of the class's own; None where that is not known."""
    learning_rates: ClassVar[tuple[float, float]] = (3e-4, 1e-5)
    """The usual learning rates, of tiny models and of those that are given."""

    def __init__(self, env: Any, config: Any, *, seed: int = 0) -> None:
        super().__init__(env, config, seed=seed)
        self.task = task_of(env)
        if self.task.picture_shape is not None and not self.sees:
            raise ValueError(f"{self.name or type(self).__name__} reads text alone, and the task shows pictures")
        sampler, initial, adapters = np.random.SeedSequence(seed).spawn(3)
        self.rng = np.random.default_rng(sampler)
        self.network = self.build(int(initial.generate_state(1)[0]), int(adapters.generate_state(1)[0]))
        self.network.check_rewards(env)
        self.max_length = self.network.room((), config.max_length or _ENDLESS)
        self.steps = self.updates = 0
        self._prepared = False
        self.metrics: dict[str, float] = {}
        self.samples: Sequence[Mapping[str, Any]] = ()
        self.set_up()
        policy = self.network
        matrices = hidden_matrices(policy.whole, policy.trained()) if config.optimiser == "muon" else ()
        self.optimiser = Optimiser(self.trained(), **OPTIMISER, matrices=matrices)

    def build(self, seed: int, adapter_seed: int) -> LanguagePolicy:
        """The language model to begin with.

        Args:
            seed: decides the weights of a new model.
            adapter_seed: decides the weights of adapters.
        """
        options = language_options(self.config.policy)
        return self.policy_class().load(options, self.task, limit=self.config.episode_limit, seed=adapter_seed)

    def policy_class(self) -> type[LanguagePolicy]:
        """The kind of policy for the task: one that reads, or one that sees."""
        return LanguagePolicy if self.task.picture_shape is None else VisionLanguagePolicy

    def set_up(self) -> None:
        """Make what the learner has besides the language model, before the optimiser takes the parameters."""

    def trained(self) -> list[nn.Parameter]:
        """The parameters that learning changes."""
        return self.network.trained()

    @classmethod
    def defaults(cls, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The limit that is usual for the task, and a small learning rate for a model that is given.

        The schedule is the same for all: examples are passed over within a budget.
        """
        limit = LanguagePolicy.defaults("GRPO", env, fields)["episode_limit"] if _has_texts(env) else 1000
        pretrained = fields.get("policy", {}).get("model") is not None
        return {"episode_limit": limit, "learning_rate": cls.learning_rates[pretrained]}

    # Learning

    def setup(self) -> None:
        """Read the file of examples, or make the environments that completions are written in.

        Raises:
            ValueError: when they cannot be had.
        """
        if not self._prepared:
            self.open_source()
            self._prepared = True

    def open_source(self) -> None:
        """See :meth:`setup`, which calls it once."""

    @abstractmethod
    def batches(self) -> Iterator[Batch[Item]]:
        """The minibatches of one update; may set ``metrics`` and ``samples``, and count steps itself."""

    def spread(self, minibatches: Sequence[Sequence[Item]], steps: int) -> Iterator[Batch[Item]]:
        """Minibatches of what was collected in so many steps, which are counted in equal parts with each."""
        count = len(minibatches)
        if count == 0:
            self.steps += steps
        for i, items in enumerate(minibatches):
            yield Batch(items, (i + 1) * steps // count - i * steps // count)

    @abstractmethod
    def loss(self, items: Sequence[Item]) -> tuple[Tensor, Terms]:
        """The mean loss over some examples, each with its :meth:`weight`, and means to log."""

    def weight(self, item: Item) -> int:
        """Weight of an example in the mean."""
        return 1

    def after_step(self) -> Mapping[str, float]:
        """Run after each gradient step; a subclass may update more and returns the metrics to log."""
        return {}

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per ``gradient_steps``; ends with the schedule, if there is one."""
        self.setup()
        while self.steps < self.span():
            self.metrics, self.samples = {}, ()
            terms: list[Mapping[str, float]] = []
            for batch in self.batches():
                self.steps += batch.steps
                terms.append(self._gradient_step(batch.items, self.config.learning_rate * self._factor()))
            self.updates += 1
            means = {name: float(np.mean([one[name] for one in terms])) for name in (terms[0] if terms else ())}
            rate = {"learning_rate": self.config.learning_rate * self._factor()}
            yield Update(self.steps, process_group().mean(self.metrics) | means | rate, self.samples)

    def _gradient_step(self, items: Sequence[Item], learning_rate: float) -> dict[str, float]:
        """One step over the examples, of which each process takes its share."""
        group, size = process_group(), self.config.microbatch_size
        own = items[group.rank :: group.world_size]
        total = sum(map(self.weight, items))
        if total == 0:
            raise ValueError(
                f"of {len(items)} examples all completions are cut away: they begin after {self.max_length} tokens"
            )
        means: dict[str, float] = {}

        def losses() -> Iterator[Tensor]:
            for part in [own] if size is None else [own[i : i + size] for i in range(0, len(own), size)]:
                share = sum(map(self.weight, part)) / total
                if share == 0:
                    continue
                loss, terms = self.loss(part)
                yield loss * share
                for name, term in {"loss": loss, **terms}.items():
                    means[name] = means.get(name, 0.0) + float(term.detach()) * share

        norm = self.optimiser.step(losses(), learning_rate)
        measured = self.after_step()
        if group.world_size > 1:
            gathered = group.all_gather(means)
            means = {
                name: sum(one.get(name, 0.0) for one in gathered)
                for name in dict.fromkeys(n for one in gathered for n in one)
            }
        return means | {"gradient_norm": norm, **measured}

    def metric_names(self) -> frozenset[str] | None:
        """Those of gradient steps, of what the class logs besides, and of completions."""
        if self.logs is None:
            return None
        return CONVERSATION_METRICS | {"loss", "gradient_norm", "learning_rate"} | self.logs

    def span(self) -> float:
        """Steps until learning ends; infinite with a constant learning rate or a budget of seconds alone."""
        if self.config.learning_rate_schedule == "constant":
            return math.inf
        return self.config.schedule_steps or self.planned_steps or self.default_steps

    def _factor(self) -> float:
        """The learning rate's factor in the gradient step that ends at ``steps``."""
        if math.isinf(self.span()):
            return 1.0
        size = self.config.minibatch_size
        return warm_cosine(min(1.0, self.steps / (math.ceil(self.span() / size) * size)))

    # Acting

    def act(self, observations: Any, *, explore: bool = False) -> Any:
        """A completion for each text: the most likely tokens, or drawn ones to explore."""
        completions, _ = self.network.act(observations, None, self.rng if explore else None)
        return completions

    def decide_together(self, decision: bool) -> bool:
        """The first process's decision, where several learn together."""
        return bool(process_group().all_gather(decision)[0])

    # State

    def state_dict(self) -> dict[str, Any]:
        """Optimiser, generator and counts; the model is among the artifacts."""
        return {
            "optimiser": {
                name: value.detach().cpu().numpy().copy() for name, value in self.optimiser.state_dict().items()
            },
            "rng": self.rng.bit_generator.state,
            "steps": self.steps,
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.steps, self.updates = int(state["steps"]), int(state["updates"])

    def save_artifacts(self, folder: Path) -> None:
        """Write the model in Hugging Face's format."""
        self.network.save_artifacts(folder)

    def load_artifacts(self, folder: Path) -> None:
        """Continue from the model that :meth:`save_artifacts` wrote into ``folder``."""
        self.network.load_artifacts(folder)


def passes(count: int, seed: int, position: int, size: int) -> list[int]:
    """The next ``size`` of so many items, in passes over all in an order that the seed decides.

    Args:
        count: how many there are.
        seed: decides the order, another one in each pass.
        position: how many were taken before.
        size: how many to take.

    >>> sorted(passes(4, 0, 0, 4)), len(passes(4, 0, 2, 5))
    ([0, 1, 2, 3], 5)
    """
    orders = {
        number: np.random.default_rng((seed, number)).permutation(count)
        for number in range(position // count, (position + size - 1) // count + 1)
    }
    return [int(orders[place // count][place % count]) for place in range(position, position + size)]


def _has_texts(env: Any) -> bool:
    space = getattr(env, "single_action_space", None) or getattr(env, "action_space", None)
    return isinstance(space, spaces.Text)


def task_of(env: Any) -> Task:
    """The task of an environment of texts.

    Raises:
        ValueError: for another environment.
    """
    task = getattr(getattr(env, "unwrapped", env), "task", None)
    if not _has_texts(env) or not isinstance(task, Task):
        raise ValueError(
            "this learner needs a text task with worked solutions or a verifier; "
            "give it gridzero/TextGeneration-v0 --env.task NAME"
        )
    return task
