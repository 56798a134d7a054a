"""Direct preference optimisation: a policy learns from pairs, without a reward model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from gridzero.agents.neural.preference_objectives import dpo, ipo
from gridzero.llm_rl.data.examples import Pair
from gridzero.llm_rl.learners.configs.dpo import DPOConfig
from gridzero.llm_rl.learners.post_training import Batch, PostTrainingLearner, Terms
from gridzero.llm_rl.learners.preferences import PairSource, pair_weight
from gridzero.llm_rl.scoring.completions import sequence_log_probs


class DPO(PostTrainingLearner[Pair]):
    """A language model that learns to write what is preferred: direct preference optimisation, or IPO.

    The reference is the model as it was at first. Pairs come from a file, or are written by the model and compared by
    the environment's rewards: the task's verifier, or a reward model's run in ``rewards``.

    Metrics: loss; ``logps/chosen`` and ``logps/rejected``, the policy's log-probabilities, of which both may fall;
    ``rewards/chosen`` and ``rewards/rejected``, implicit rewards β log π/π_ref; ``rewards/margins``, their difference,
    and ``rewards/accuracies``, how often it is above 0; those of the completions, where the model writes them.

    Source: Rafailov et al. (2023), Direct preference optimization; Azar et al. (2023), A general theoretical paradigm
    to understand learning from human preferences (IPO); Guo et al. (2024), Direct language model alignment from online
    AI feedback (fresh pairs).
    """

    Config = DPOConfig
    config: DPOConfig
    logs = frozenset(
        {
            "logps/chosen",
            "logps/rejected",
            "rewards/chosen",
            "rewards/rejected",
            "rewards/margins",
            "rewards/accuracies",
        }
    )
    learning_rates = (3e-4, 1e-6)

    def set_up(self) -> None:
        """Keep the reference, and find where pairs come from."""
        self.reference = self.network.reference = self.network.as_reference()
        self.source = PairSource(self, self.reference.model if self.config.writer == "reference" else nullcontext)

    def open_source(self) -> None:
        """Read the file of pairs, or make the environments that completions are written in."""
        self.source.open()

    def batches(self) -> Iterator[Batch[Pair]]:
        """Pairs of a file, fixed ones, or fresh ones."""
        return self.source.batches()

    def weight(self, item: Pair) -> int:
        """Each pair counts the same."""
        return pair_weight(item)

    def loss(self, items: Sequence[Pair]) -> tuple[Tensor, Terms]:
        """The preference loss, with log-probabilities and implicit rewards to log."""
        config, policy = self.config, self.network
        pairs = [pair for pair in items if pair_weight(pair)]
        examples = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        temperature = policy.options.temperature
        log_probs = sequence_log_probs(policy.model, examples, policy.pad, temperature=temperature)
        with torch.no_grad(), self.reference.model() as model:
            reference = sequence_log_probs(model, examples, policy.pad, temperature=temperature)
        four = (*log_probs.chunk(2), *reference.chunk(2))
        labels, smoothing = log_probs.new_tensor([pair.probability for pair in pairs]), config.label_smoothing
        if config.loss == "sigmoid":
            loss = dpo(*four, beta=config.beta, probabilities=labels, label_smoothing=smoothing)
        else:
            loss = ipo(*four, tau=config.beta, probabilities=labels, label_smoothing=smoothing)
        chosen, rejected = (config.beta * (log_probs - reference).detach()).chunk(2)
        terms = {
            "logps/chosen": four[0],
            "logps/rejected": four[1],
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": (chosen > rejected).float(),
        }
        return loss.mean(), {name: term.mean() for name, term in terms.items()}

    def state_dict(self) -> dict[str, Any]:
        """State from which learning resumes, with the pairs that were written once."""
        return super().state_dict() | {"pairs": self.source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        super().load_state_dict(state)
        self.source.load_state_dict(state["pairs"])
