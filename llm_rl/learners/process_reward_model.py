"""Process reward model: the probability of each step of a completion that it is right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gridzero.envs.tasks.reward import Rewards, StepReward
from gridzero.envs.tasks.task import Problem, Task
from gridzero.llm_rl.data.examples import StepExample
from gridzero.llm_rl.data.jsonl import read_steps, step_example
from gridzero.llm_rl.learners.configs.process_reward_model import ProcessRewardModelConfig
from gridzero.llm_rl.learners.post_training import Batch, Terms, passes
from gridzero.llm_rl.learners.sampling import Sampler, Written, completion_texts
from gridzero.llm_rl.learners.scoring import ScoringLearner
from gridzero.llm_rl.policies.language_policy import LanguagePolicy, slices


class ProcessRewardModel(ScoringLearner[StepExample]):
    """A language model with a head of one number, read off the last token of each step: the log-odds that it is right.

    It is a reward function: a completion is worth the least probability of its steps, and each step pays what it takes
    from that, so that the credit goes to the step which is to blame and a long thought pays no more than a short one.

    Metrics: loss in nats a step, accuracy and calibration_gap of steps before the gradient step on them, and
    ``right_steps``, the share of labels that say right.

    Source: Lightman et al. (2023), Let's verify step by step; Wang et al. (2023), Math-Shepherd, eqs. 1 and 3, and
    section 3.4 for the minimum.
    """

    Config = ProcessRewardModelConfig
    config: ProcessRewardModelConfig
    logs = frozenset({"accuracy", "right_steps", "calibration_gap"})

    def set_up(self) -> None:
        """Make the scorer."""
        super().set_up()
        self.examples: list[StepExample] | None = None

    def open_source(self) -> None:
        """Read the file of steps, or make the environments that completions are written in."""
        config = self.config
        if config.data is not None:
            self.examples = read_steps(Path(config.data), self.network, config.separator, self.max_length)
            return
        if self.task.turns > 1:
            raise ValueError(f"{self.task.name} answers back; steps are of completions of one turn")
        problem = self.task.sample(np.random.default_rng(self.seed))
        if config.labels == "work" and not self.task.work(problem, np.random.default_rng(self.seed)):
            raise ValueError(f"{self.task.name} has no work to compare steps with: --labels rollouts")
        self.sampler = Sampler(self.env, config.sampling_size, 1, self.seed)

    # Learning

    def minibatches(self) -> Iterator[Batch[StepExample]]:
        """Completions of a file, or fresh ones, with labels."""
        return self._fresh() if self.examples is None else self._next(self.examples)

    def _next(self, examples: Sequence[StepExample]) -> Iterator[Batch[StepExample]]:
        size = self.config.minibatch_size
        for _ in range(self.config.gradient_steps):
            if self.steps >= self.span():
                return
            yield Batch([examples[i] for i in passes(len(examples), self.seed, self.steps, size)], size)

    def _fresh(self) -> Iterator[Batch[StepExample]]:
        config = self.config
        size = config.minibatch_size
        written: list[Written] = []
        for _ in range(math.ceil(size * config.gradient_steps / config.sampling_size)):
            groups = self.sampler(self.network, config.episode_limit, self.rng)
            written += [one for group in groups for one in group]
        self.metrics |= self.sampler.metrics
        self.samples = self.sampler.samples
        texts = completion_texts(self.network, [one.example for one in written])
        items = self.label([one.problem for one in written], texts)
        yield from self.spread([items[i : i + size] for i in range(0, len(items), size)], len(items))

    def label(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[StepExample]:
        """Completions with a label for each step."""
        config = self.config
        steps = [completion.split(config.separator) for completion in completions]
        if config.labels == "work":
            labels = [work_labels(self.task, *row, config.separator) for row in zip(problems, steps, strict=True)]
        else:
            labels = rollout_labels(
                self.network, self.task, problems, steps, config.separator, config.rollouts, self.rng
            )
        prompts = map(self.task.prompt, problems)
        rows = zip(prompts, steps, labels, strict=True)
        return [step_example(self.scorer, *row, config.separator) for row in rows]

    def weight(self, item: StepExample) -> int:
        """Each step counts the same."""
        return sum(end < self.max_length for end in item.ends)

    def loss(self, items: Sequence[StepExample]) -> tuple[Tensor, Terms]:
        """Cross-entropy of the labels."""
        kept = [
            (one.example.cut(self.max_length), [end for end in one.ends if end < self.max_length], one.labels)
            for one in items
        ]
        kept = [row for row in kept if row[1]]
        log_odds = self.numbers_at([row[0] for row in kept], [row[1] for row in kept])
        labels = log_odds.new_tensor([label for _, ends, own in kept for label in own[: len(ends)]])
        probabilities = torch.sigmoid(log_odds.detach())
        self.judged += zip(probabilities.tolist(), labels.tolist(), strict=True)
        right = ((probabilities > 0.5) == (labels > 0.5)).float()
        terms = {"accuracy": right.mean(), "right_steps": labels.mean()}
        return binary_cross_entropy_with_logits(log_odds, labels), terms

    # Judging

    @torch.no_grad()
    def step_probabilities(self, prompts: Sequence[str], completions: Sequence[str]) -> list[list[float]]:
        """The probability of each step of each completion that it is right."""
        separator = self.config.separator
        steps = [completion.split(separator) for completion in completions]
        examples = [
            step_example(self.scorer, prompt, own, [0.0] * len(own), separator)
            for prompt, own in zip(prompts, steps, strict=True)
        ]
        numbers: list[float] = []
        for rows in slices(len(examples)):
            part = examples[rows]
            log_odds = self.numbers_at([one.example for one in part], [one.ends for one in part])
            numbers += torch.sigmoid(log_odds).tolist()
        ends = np.cumsum([len(own) for own in steps])[:-1]
        return [part.tolist() for part in np.split(np.array(numbers), ends)]

    def scores(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The least probability of the steps of each completion."""
        return [min(probabilities) for probabilities in self.step_probabilities(prompts, completions)]

    def __call__(self, problem: Problem, completions: Sequence[str]) -> Rewards:
        """Rewards of completions about a problem; see :class:`~gridzero.envs.tasks.reward.RewardFunction`."""
        return self.many([problem] * len(completions), completions)

    def many(self, problems: Sequence[Problem], completions: Sequence[str]) -> Rewards:
        """Rewards of completions, each about its problem."""
        probabilities = self.step_probabilities([self.task.prompt(problem) for problem in problems], completions)
        rows = zip(completions, probabilities, strict=True)
        paid = [step_rewards(completion, own, self.config.separator) for completion, own in rows]
        return Rewards([at_the_end for at_the_end, _ in paid], [steps for _, steps in paid])


def step_rewards(completion: str, probabilities: Sequence[float], separator: str) -> tuple[float, list[StepReward]]:
    """Rewards of a completion: 1 at its end, and for each step the change of the least probability so far.

    Together they are the least probability of all steps.

    Args:
        completion: the text.
        probabilities: (steps,) of each step that it is right.
        separator: the text between two steps.

    Returns:
        The reward at the end, and those of the steps; an empty step's counts at the end.

    Source: Wang et al. (2023), Math-Shepherd, section 3.4 (the minimum as the score of a solution).

    >>> step_rewards("1,2", [0.75, 0.25], ",")
    (1.0, [StepReward(value=-0.25, start=0, end=2), StepReward(value=-0.5, start=2, end=3)])
    """
    at_the_end = least = 1.0
    steps: list[StepReward] = []
    begin = 0
    for text, probability in zip(completion.split(separator), probabilities, strict=True):
        end = min(begin + len(text) + len(separator), len(completion))
        change = min(0.0, probability - least)
        least += change
        if begin < end:
            steps.append(StepReward(change, begin, end))
        else:  # an empty step has no text to be paid for
            at_the_end += change
        begin = end
    return at_the_end, steps


def work_labels(task: Task, problem: Problem, steps: Sequence[str], separator: str) -> list[float]:
    """1 for each step up to which a completion is that of the task's own work, and for the last if the answer is right.

    Args:
        task: has work that is the same whenever it is done.
        problem: which the completion is about.
        steps: of the completion.
        separator: the text between two steps.
    """
    work = task.template.completion(task.work(problem, np.random.default_rng(0)), task.answer(problem))
    prefixes = [separator.join(steps[: i + 1]) + separator for i in range(len(steps) - 1)]
    right = task.verify(problem, separator.join(steps)).correct
    return [*(float(work.startswith(prefix)) for prefix in prefixes), float(right)]


def rollout_labels(
    policy: LanguagePolicy,
    task: Task,
    problems: Sequence[Problem],
    steps: Sequence[Sequence[str]],
    separator: str,
    rollouts: int,
    rng: np.random.Generator,
) -> list[list[float]]:
    """1 for each step from which one of several completions reaches a right answer, 0 for the others.

    Args:
        policy: completes.
        task: verifies.
        problems: what each completion is about.
        steps: of each completion; the last is right if its answer is.
        separator: the text between two steps.
        rollouts: completions of each step.
        rng: draws them.

    Source: Wang et al. (2023), Math-Shepherd, eq. 3 (hard estimation).
    """
    places = [(i, k) for i, own in enumerate(steps) for k in range(len(own) - 1)]
    begun = {(i, k): separator.join(steps[i][: k + 1]) + separator for i, k in places}
    labels = [[0.0] * len(own) for own in steps]
    for i, own in enumerate(steps):
        labels[i][-1] = float(task.verify(problems[i], separator.join(own)).correct)
    sampling = policy.sampling(policy.limit)
    for rows in slices(len(places)):
        part = places[rows]
        renderer = policy.renderer
        prompts = [renderer.prompt(task.prompt(problems[i])) + renderer.text(begun[i, k]) for i, k in part]
        if not prompts:
            continue
        written = policy.generate(prompts, rollouts, sampling, rng)
        texts = policy.decode(written.tokens.cpu().numpy(), written.ended.tolist())
        for number, (i, k) in enumerate(part):
            own_texts = texts[number * rollouts : (number + 1) * rollouts]
            labels[i][k] = float(any(task.verify(problems[i], begun[i, k] + text).correct for text in own_texts))
    return labels
