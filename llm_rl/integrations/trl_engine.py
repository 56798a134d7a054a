"""GRPO by the trainer of TRL: task, model and settings are handed to ``trl.GRPOTrainer``."""

from __future__ import annotations

import importlib.util
import math
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridzero.agents.learner import Update
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.grpo import GRPO, GRPOConfig
from gridzero.agents.neural.objectives import overlong_penalty
from gridzero.envs.tasks import Problem
from gridzero.llm_rl.integrations.task_exports import from_json, replies, row, trl_reward, written
from gridzero.llm_rl.models.peft import as_peft, has_bottlenecks, is_adapted
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.rendering import ChatRenderer
from gridzero.llm_rl.policies.language_policy import LanguagePolicy

PROMPTS = 16_384
"""The data set has so many at most; then it begins again."""
SAMPLES = 3
ENDLESS = 10**9

METRICS = {
    "reward": "episode_return",
    "accuracy": "accuracy",
    "form": "form",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncations",
    "frac_reward_zero_std": "groups_alike",
    "clip_ratio/region_mean": "clip_fraction",
    "entropy": "entropy",
    "kl": "kl_to_reference",
    "loss": "loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "learning_rate",
}
"""TRL's name of a metric → ours; the others keep theirs."""

_SCALES = {"standardised": "group", "batch-standardised": "batch", "centred": "none", "leave-one-out": "none"}
_LOSSES = {"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}


class TRLGRPO(GRPO):
    """GRPO whose updates TRL makes: what it learns, acts with and saves is as in :class:`GRPO`.

    The trainer runs in a thread of its own, which stands still while an update is looked at. Each update is one of
    TRL's generations with the gradient steps on it.

    Source: the documentation of ``trl.GRPOTrainer``; checked with TRL 1.16.

    Raises:
        ValueError: for an environment that is not ``gridzero/TextGeneration-v0`` with a task of one turn,
            or for settings that TRL does not have.
    """

    network: LanguagePolicy
    resumable = False

    def __init__(self, env: Any, config: GRPOConfig, *, seed: int = 0, policy: Any = None) -> None:
        task = getattr(env.unwrapped, "task", None)
        if task is None or not hasattr(env.unwrapped, "evaluation_options"):
            raise ValueError("TRL trains on gridzero/TextGeneration-v0")
        if task.turns > 1:
            raise ValueError(f"TRL trains on single completions; {task.name} answers back, up to {task.turns} turns")
        trl_settings(config)
        super().__init__(env, config, seed=seed, policy=policy)
        if not isinstance(self.network, LanguagePolicy):
            raise ValueError("TRL trains language models, in gridzero/TextGeneration-v0")
        self._scorer = _Rewards(self)

    def setup(self) -> None:
        """Raise ValueError where TRL cannot train; such an agent can be evaluated all the same."""
        if has_bottlenecks(self.network.model):
            raise ValueError("TRL trains with adapters of peft, which has no bottlenecks; --policy.peft lora")
        if importlib.util.find_spec("trl") is None:
            raise ValueError("TRL is not installed; pip install 'gridzero[trl]'")

    def learn(self) -> Iterator[Update]:
        """One :class:`Update` per generation; ends with a linear schedule, else never."""
        self.setup()
        config, policy = self.config, self.network
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(Path(folder))
            for update in _in_turn(trainer, gradient_steps(config)):
                self.steps += config.groups * config.group_size
                self.updates += 1
                yield Update(self.steps, update, self._scorer.samples)
        policy.model.eval()

    def metric_names(self) -> None:
        """None: TRL alone knows what it logs."""

    def trainer(self, folder: Path) -> Any:
        """TRL's trainer of this agent's model.

        Args:
            folder: empty, for what it needs on the way.
        """
        import transformers
        import trl
        from datasets import Dataset

        config, policy = self.config, self.network
        model = as_peft(policy.model)
        updates = self._planned_updates()
        options = policy.options
        arguments = trl.GRPOConfig(
            **trl_settings(config),
            output_dir=str(folder),
            max_steps=min(ENDLESS, updates * gradient_steps(config)),
            seed=int(self.rng.integers(2**31)),
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            gradient_checkpointing=options.gradient_checkpointing,
            bf16=model.dtype == torch.bfloat16,
            use_cpu=policy.device.type == "cpu",
        )
        for parameter in policy.trained():
            parameter.grad = None
        given, settings = model.config._name_or_path, model.generation_config
        ends, settings.eos_token_id = settings.eos_token_id, list(policy.end)  # where TRL looks for what ends one
        if config.kl_coefficient > 0 and not is_adapted(policy.model):
            # TRL reads the reference from where the model is.
            save_model(model, policy.tokenizer, folder / "reference")
            model.config._name_or_path = str(folder / "reference")
        trainer = trl.GRPOTrainer(
            model,
            self._scorer,
            arguments,
            train_dataset=Dataset.from_list(self._prompts(updates)),
            processing_class=policy.tokenizer,
        )
        model.config._name_or_path, settings.eos_token_id = given, ends
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer

    def _planned_updates(self) -> int:
        span = self.config.schedule_steps or self.planned_steps or self.default_steps
        if math.isinf(span):
            span = self.default_steps if self.config.learning_rate_schedule == "linear" else ENDLESS
        return math.ceil(span / (self.config.groups * self.config.group_size))

    def _prompts(self, updates: int) -> list[dict[str, Any]]:
        """Problems, as TRL takes them: as many as there are groups, and not more than fit."""
        source: Any = self.vector.unwrapped
        groups = self.config.groups
        count = groups * max(1, min(updates, PROMPTS // groups))

        def draw() -> Problem:
            few: Sequence[Problem] | None = source.distinct_problems
            problem: Problem = few[int(self.rng.integers(len(few)))] if few else source.task.sample(self.rng)
            return problem

        chat = isinstance(self.network.renderer, ChatRenderer)
        return [row(source.task, draw(), conversational=chat) for _ in range(count)]


class _Rewards:
    """Reward function for TRL; it keeps a few completions as samples."""

    __name__ = "task"

    def __init__(self, agent: TRLGRPO) -> None:
        source: Any = agent.vector.unwrapped
        config = agent.config
        self._task = source.task
        self._end = agent.network.end
        self._reward = trl_reward(source.task, source.rewards.weights, end=self._end)
        self._limit, self._margin = config.episode_limit, round(config.overlong_margin * config.episode_limit)
        # Leaving oneself out of the mean is the same as larger rewards.
        size = config.group_size
        self._factor = size / (size - 1) if config.baseline == "leave-one-out" else 1.0
        self.samples: list[dict[str, Any]] = []

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        problem: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        **columns: Any,
    ) -> list[float]:
        rewards = torch.tensor(self._reward(prompts, completions, problem, completion_ids=completion_ids, **columns))
        if self._margin:
            lengths: Tensor = torch.tensor(list(map(len, completion_ids)))
            rewards += overlong_penalty(lengths, self._limit, self._margin)
        count = len(prompts)
        said = replies(completions, completion_ids, self._end)
        self.samples = [
            self._sample(prompts[i], said[i], problem[i]) for i in range(0, count, max(1, count // SAMPLES))[:SAMPLES]
        ]
        return [float(reward) for reward in rewards * self._factor]

    def _sample(self, prompt: Any, said: str, problem: str) -> dict[str, Any]:
        verdict = self._task.verify(from_json(problem), said)
        return {"prompt": written(prompt), "completion": said, "correct": verdict.correct, "reason": verdict.reason}


def gradient_steps(config: GRPOConfig) -> int:
    """Gradient steps in an update."""
    return config.epochs * _parts(config)


def _parts(config: GRPOConfig) -> int:
    """Minibatches in an update, of ``minibatch_size`` tokens if completions are as long as they may be.

    TRL wants them equal: of the numbers that divide the update, the nearest.
    """
    completions = config.groups * config.group_size // process_group().world_size
    wanted = completions * process_group().world_size * config.episode_limit / config.minibatch_size
    divisors = [number for number in range(1, completions + 1) if completions % number == 0]
    return min(divisors, key=lambda number: abs(math.log(number / max(1.0, wanted))))


def trl_settings(config: GRPOConfig) -> dict[str, Any]:
    """The keywords of ``trl.GRPOConfig`` that mean what the settings of GRPO mean.

    Args:
        config: for a language model.

    Raises:
        ValueError: for a setting that TRL does not have; it says what to give instead.

    >>> settings = trl_settings(GRPOConfig(variant="dr_grpo", baseline="centred", credit="outcome", gamma=1.0,
    ...     normalisation="constant", entropy_coefficient=0.0))
    >>> settings["loss_type"], settings["scale_rewards"]
    ('dr_grpo', 'none')
    """
    _refuse_what_is_not_mapped(config)
    completions, size = config.groups * config.group_size, process_group().world_size
    if completions % size:
        raise ValueError(f"{size} processes cannot share {completions} completions equally")
    parts = _parts(config)
    high = config.clip if config.clip_high is None else config.clip_high
    truncated = config.surrogate == "truncated"
    return {
        "num_generations": config.group_size,
        "per_device_train_batch_size": completions // size // parts,
        "steps_per_generation": parts,
        "gradient_accumulation_steps": 1,
        "num_iterations": config.epochs,
        "max_completion_length": config.episode_limit,
        "epsilon": config.clip,
        "epsilon_high": 1 + high if truncated else high,
        "loss_type": "cispo" if truncated else _LOSSES[config.normalisation],
        "importance_sampling_level": "sequence" if config.surrogate == "sequence" else "token",
        "scale_rewards": _SCALES[config.baseline],
        "mask_truncated_completions": config.mask_truncated,
        "beta": config.kl_coefficient,
        "use_bias_correction_kl": config.kl_importance_weighted,
        "sync_ref_model": config.kl_coefficient > 0 and config.reference_updates > 0,
        "ref_model_sync_steps": max(1, config.reference_updates) * config.epochs * parts,
        "ref_model_mixup_alpha": 1.0,
        "entropy_coef": config.entropy_coefficient,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.learning_rate_schedule,
        "adam_epsilon": config.adam_epsilon,
        "weight_decay": 0.0,
        "max_grad_norm": config.max_gradient_norm,
        "logging_steps": config.epochs * parts,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _refuse_what_is_not_mapped(config: GRPOConfig) -> None:
    wanted: dict[str, tuple[Any, ...]] = {
        "gamma": (1.0,),
        "credit": ("outcome",),
        "optimiser": ("adamw",),
        "resampling": (0,),
        "rescore": (False,),
        "log_completions": (False,),
        "surrogate": ("clipped", "sequence", "truncated"),
        "clip_schedule": ("constant",),
        "schedule_steps": (None,),
    }
    if config.entropy_coefficient > 0:
        wanted["entropy_schedule"] = ("constant",)
    if config.entropy_coefficient > 0 or config.kl_coefficient > 0:
        wanted["skip_flat_groups"] = (None, False)
    if config.kl_coefficient > 0:
        wanted["kl_estimator"] = ("k3",)
        wanted["kl_in_reward"] = (False,)
    if config.surrogate != "clipped":
        wanted["normalisation"] = ("sequence" if config.surrogate == "sequence" else "token",)
    for name, allowed in wanted.items():
        if getattr(config, name) not in allowed:
            flag = f"--{name.replace('_', '-')}"
            given = getattr(config, name)
            raise ValueError(f"TRL has no {flag} {given}; with trl-grpo give {flag} {allowed[0]}")


# Trainers call back; agents hand out updates. A thread turns the one into the other.


def _in_turn(trainer: Any, every: int) -> Iterator[Mapping[str, float]]:
    """Let a trainer run, and hand out its metrics after each so many steps; closing it stops the trainer."""
    import transformers

    updates: queue.SimpleQueue[Mapping[str, float] | BaseException | None] = queue.SimpleQueue()
    go_on: queue.SimpleQueue[bool] = queue.SimpleQueue()

    class HandOver(transformers.TrainerCallback):
        """Waits after each update until it is told to go on."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            """Hand over the metrics, but for those at the very end."""
            if logs is not None and "train_runtime" not in logs and state.global_step % every == 0:
                updates.put(_metrics(logs))
                control.should_training_stop = control.should_training_stop or not go_on.get()

    trainer.add_callback(HandOver)
    thread = threading.Thread(target=_run, args=(trainer.train, torch.get_num_threads(), updates), daemon=True)
    thread.start()
    try:
        while (update := updates.get()) is not None:
            if isinstance(update, BaseException):
                raise update
            yield update
            go_on.put(True)
    finally:
        go_on.put(False)
        thread.join()


def _run(train: Callable[[], Any], threads: int, updates: queue.SimpleQueue[Any]) -> None:
    try:
        torch.set_num_threads(threads)  # a new thread has its own number
        train()
    except BaseException as error:  # handed to where it is looked for
        updates.put(error)
    else:
        updates.put(None)


def _metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    """TRL's log in our words."""
    numbers = {
        METRICS.get(name, name): float(value)
        for name, value in logs.items()
        if isinstance(value, int | float | np.number)
    }
    return {name: value for name, value in numbers.items() if not name.startswith("rewards/")}
