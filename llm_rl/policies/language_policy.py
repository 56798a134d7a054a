"""A language model as a policy: an action is a token, an episode a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridzero.agents.neural.batches import Steps
from gridzero.agents.neural.distributed import process_group
from gridzero.agents.neural.policy import Policy, Scores, ValuedScores
from gridzero.envs.tasks.reward import RewardSum
from gridzero.envs.tasks.task import Task
from gridzero.envs.tasks.templates import CutOff
from gridzero.envs.text.scene import texts_and_pictures
from gridzero.llm_rl.data.examples import picture_of
from gridzero.llm_rl.decoding.generate import Completions, OnToken, check_positions, generate
from gridzero.llm_rl.decoding.sampling import Draws, Sampling
from gridzero.llm_rl.decoding.vllm_engine import VLLMEngine, check_vllm
from gridzero.llm_rl.models.causal import ValueHead, checkpoint_gradients, hidden_states, max_positions, output_head
from gridzero.llm_rl.models.experts import agreement, experts_of, loads_of, maximal_violation, routers
from gridzero.llm_rl.models.peft import Reference
from gridzero.llm_rl.models.pretrained import load_model, read_weights, write_model
from gridzero.llm_rl.models.rendering import encode_text, renderer_of
from gridzero.llm_rl.models.tokenizer import end_tokens, padding_tokens, token_texts
from gridzero.llm_rl.models.virtual_tokens import virtual_count
from gridzero.llm_rl.policies.base_models import base_model
from gridzero.llm_rl.policies.histories import Histories
from gridzero.llm_rl.policies.language_options import (
    LanguageOptions,
    adapt,
    device_of,
    dtype_of,
    language_options,
    uses_chat,
)
from gridzero.llm_rl.policies.token_limit import DEMONSTRATIONS, usual_limit
from gridzero.llm_rl.rollouts.conversations import joined
from gridzero.llm_rl.scoring.packed_forward import packed_forward
from gridzero.llm_rl.scoring.packing import Packing
from gridzero.llm_rl.scoring.shared_prompts import states_after_prompts
from gridzero.llm_rl.scoring.token_log_probs import token_log_probs

_NETWORKS_ONLY = (
    "hidden", "activation", "memory", "convolutions", "normalise_observations", "action_masks", "initial_log_std",
)  # fmt: skip
_ROWS_AT_ONCE = 512
_WATCHED = slice(32)


class LanguagePolicy(Policy):
    """A causal language model that converses with environments of Text.

    A prompt is what the environment shows first, a completion what the model writes until its end token; where the
    environment answers, the conversation goes on. Log-probabilities are those at the options' temperature, before top-k
    and top-p.

    Args:
        model: a causal model: a Llama of this package, or one of Hugging Face's transformers.
        tokenizer: its tokenizer.
        options: see :class:`LanguageOptions`.
        task: of the environment, for its system prompt and template; None: none.
        limit: tokens in a conversation, at most.
        critic: whether to have a value head on the model's hidden states.
        seed: decides the initial weights of what is added to the model.

    Attributes:
        limit: tokens that the model may write in one conversation.
        renderer: makes tokens of conversations.
        histories: the conversations that it took part in when it acted last.
        end: tokens that end a completion.
        pad: the token that fills up.
        silent: end tokens and padding, from which on a completion says nothing.
        whole: the model with all its parts.
    """

    Options = LanguageOptions
    parallel = True
    watches = frozenset({"expert_violation", "expert_agreement"})
    default_steps: ClassVar[Mapping[str, int]] = {"GRPO": 20_480, "TRLGRPO": 20_480, "PPO": 40_960, "Reinforce": 40_960}

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        options: LanguageOptions,
        *,
        limit: int,
        task: Task | None = None,
        critic: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.options, self.limit = options, limit
        self.tokenizer = tokenizer
        model = adapt(model, options, seed=seed)
        self.model = self.whole = model.eval()
        self._engine: VLLMEngine | None = None
        if options.decoder == "vllm":
            check_vllm(model, Sampling(options.temperature, options.top_k, options.top_p))
        if options.gradient_checkpointing:
            checkpoint_gradients(model)
        self.device: torch.device = next(model.parameters()).device
        self.value_head = ValueHead(model).to(self.device) if critic else None
        self.reference: Reference | None = None
        self.end = end_tokens(model, tokenizer, lines=options.stop == "line")
        fill = (tokenizer.pad_token_id, tokenizer.eos_token_id, self.end[-1])
        self.pad = int(next(token for token in fill if token is not None))
        self.silent = frozenset({*self.end, self.pad, *padding_tokens(model, tokenizer)})
        self.renderer = renderer_of(
            tokenizer, self.end, chat=uses_chat(tokenizer, options, task), system=getattr(task, "system", "")
        )
        self.histories = Histories(self.renderer)

    @classmethod
    def defaults(cls, agent: str, env: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Settings for language models: no discount, no bonus, and for one that is given a small constant rate.

        The tiny model of a task learns within a budget, to the end of a schedule; a model that is given counts as a
        pretrained one, whatever its size, and such runs end when they are good enough.
        """
        model = fields.get("policy", {}).get("model")
        pretrained = model is not None
        limit = usual_limit(getattr(env.unwrapped, "task", None), model)
        found: dict[str, Any] = {
            "gamma": 1.0,
            "learning_rate": 1e-6 if pretrained else 3e-4,
            "learning_rate_schedule": "constant" if pretrained else "linear",
            "entropy_coefficient": 0.0,
            "max_gradient_norm": 1.0,
        }
        if agent == "Reinforce":
            return found | {"episode_limit": limit, "num_envs": 256, "baseline": "mean"}
        found["minibatch_size"] = 4096
        if agent == "PPO":
            return found | {"rollout_steps": limit, "num_envs": 256, "gae_lambda": 1.0, "normalise_rewards": False}
        return found | {"episode_limit": limit, "groups": 32, "group_size": 16, "credit": "outcome", "epochs": 1}

    @classmethod
    def build(cls, vector: Any, config: Any, *, critic: bool, shared: bool, seed: int) -> LanguagePolicy:
        """The model that the config's options name; see :meth:`Policy.build`."""
        fields = type(config).__dataclass_fields__
        for name in _NETWORKS_ONLY:
            if getattr(config, name) != fields[name].default:
                raise ValueError(f"{name} is of networks; a language model has options of its own: --policy.KEY VALUE")
        options = language_options(config.policy)
        limit = config.episode_limit if "episode_limit" in fields else config.rollout_steps
        task = getattr(vector.unwrapped, "task", None)
        policy = cls.load(options, task, limit=limit, critic=critic, seed=seed)
        policy._check_prompts(task)
        policy.check_rewards(vector)
        return policy

    @classmethod
    def load(
        cls, options: LanguageOptions, task: Task | None, *, limit: int, critic: bool = False, seed: int = 0
    ) -> LanguagePolicy:
        """The model that the options name, or the tiny one that was warmed up on a task's solutions.

        Raises:
            ValueError: when it cannot be had.
        """
        device = device_of(options.device)
        dtype = dtype_of(options.dtype, device)
        if options.model is None:
            if task is None:
                raise ValueError("there are no demonstrations to make a model from; give --policy.model FOLDER")
            with process_group().main_process_first():
                model, tokenizer = base_model(task, text=options.text)
            model = model.to(device=device, dtype=dtype)
        else:
            model, tokenizer = cls.read(options.model, dtype=dtype, device=device)
        return cls(model, tokenizer, options, task=task, limit=limit, critic=critic, seed=seed)

    @staticmethod
    def read(path: str, *, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
        """The model at a path, and its tokenizer."""
        return load_model(path, dtype=dtype, device=device)

    def _check_prompts(self, task: Any) -> None:
        """Raise ValueError where none of some prompts of a task leave enough positions, before training begins."""
        if task is None:
            return
        rng = np.random.default_rng(0)
        problems = [task.sample(rng) for _ in range(DEMONSTRATIONS)]
        lengths = [len(self.renderer.prompt(task.prompt(one), picture_of(task, one, ()))) for one in problems]
        check_positions(self.model, virtual_count(self.model) + min(lengths), self.limit)

    def check_rewards(self, env: Any) -> None:
        """Raise ValueError where a reward function of an environment cannot read what the model may write."""
        rewards = getattr(env.unwrapped, "rewards", None)
        if isinstance(rewards, RewardSum):
            rewards.check_texts(lambda: token_texts(self.tokenizer))

    def room(self, tokens: Sequence[int], left: int) -> int:
        """Number of tokens that the model can write after these, of ``left`` that it may; perhaps below 1."""
        positions = max_positions(self.model)
        return left if positions is None else min(left, positions - virtual_count(self.model) - len(tokens))

    # Writing

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """Tokens of a text; with the mark of the beginning, where the model has one and the text begins there.

        Raises:
            ValueError: for a text that the tokenizer has no tokens for.
        """
        return encode_text(self.tokenizer, text, begins=begins)

    def decode(self, tokens: NDArray[np.int64], ended: Sequence[bool]) -> list[str]:
        """The texts of completions (B, T) before their end tokens; ``CutOff`` where they have not ended (B,)."""
        rows = tokens.tolist()
        cut = [row[: next((i for i, token in enumerate(row) if token in self.silent), len(row))] for row in rows]
        texts: list[str] = self.tokenizer.batch_decode(cut, clean_up_tokenization_spaces=False)
        return [text if whole else CutOff(text) for text, whole in zip(texts, ended, strict=True)]

    def sampling(self, limit: int, *, greedy: bool = False) -> Sampling:
        """Settings of drawing tokens."""
        options = self.options
        return Sampling(options.temperature, options.top_k, options.top_p, greedy, max_tokens=limit)

    def act(
        self,
        observations: Any,
        memory: Tensor | None,
        rng: np.random.Generator | None,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[tuple[str, ...], Tensor]:
        """A completion for each text; the most likely tokens without a generator.

        A text that goes on from one of the last call's, with its completion, is the same conversation: the model reads
        the very tokens that it wrote, and has as many left as its limit leaves. One that has none left is given an
        empty completion.
        """
        drawn = np.random.default_rng(0) if rng is None else rng
        shown, pictures = texts_and_pictures(observations)
        histories = [self.histories.find(row, *seen) for row, seen in enumerate(zip(shown, pictures, strict=True))]
        rooms = [self.room(history.tokens, self.limit - history.written) for history in histories]
        texts = [""] * len(histories)
        for rows in slices(len(histories)):
            going = [i for i in range(len(histories))[rows] if rooms[i] > 0]
            if not going:
                continue
            limits = [rooms[i] for i in going]
            sampling = self.sampling(max(limits), greedy=rng is None)
            new = self.generate([histories[i].tokens for i in going], 1, sampling, drawn, limits=limits)
            tokens, lengths = new.tokens.cpu().numpy(), new.lengths.tolist()
            for row, (i, text) in enumerate(zip(going, self.decode(tokens, new.ended.tolist()), strict=True)):
                texts[i], histories[i] = text, histories[i].with_completion(tokens[row, : lengths[row]].tolist())
        self.histories.remember(shown, texts, histories)
        return tuple(texts), torch.zeros(len(texts), 0)

    def generate(
        self,
        prompts: list[list[int]],
        copies: int,
        sampling: Sampling,
        rng: np.random.Generator | Draws,
        *,
        limits: Sequence[int] | None = None,
        on_token: OnToken | None = None,
    ) -> Completions:
        """``copies`` completions of each prompt, one prompt after the other; see :func:`generate`."""
        if self.options.decoder == "vllm" and on_token is None:
            self._engine = self._engine or VLLMEngine(self.model, self.options.temperature)
            return self._engine.generate(prompts, copies, sampling, end=self.end, pad=self.pad, rng=rng, limits=limits)
        return generate(
            self.model, prompts, copies, sampling,
            end=self.end, pad=self.pad, rng=rng, limits=limits, on_token=on_token,
        )  # fmt: skip

    # Scoring

    def evaluate_actions(self, steps: Steps) -> Scores:
        """Score the tokens that the model wrote, with gradients."""
        scores, _ = self._score(self.model, steps)
        return scores

    def evaluate_with_values(self, steps: Steps) -> ValuedScores:
        """Score the tokens that the model wrote and value the states before them, with gradients.

        Raises:
            ValueError: without a critic.
        """
        if self.value_head is None:
            raise ValueError("this policy has no critic")
        scores, states = self._score(self.model, steps)
        return ValuedScores(scores.log_probs, scores.entropies, _per_step(steps, self.value_head(states)))

    def _score(self, model: Any, steps: Steps) -> tuple[Scores, Tensor]:
        """One forward pass over prompts, each once, and the tokens since; the output layer sees the model's own tokens.

        Returns:
            Scores, and the states (N, D) before the tokens that the model wrote.
        """
        tokens, first, lengths = joined(steps, self.pad)
        tokens = tokens[:, :-1]  # nothing follows the last
        rows, columns = steps.mask.nonzero(as_tuple=True)
        before = first[rows] + columns - 1  # the state before a token is that of the token before it
        packing = Packing.of(tokens, first, first + lengths - 1)
        states = packed_forward(model, packing.to(self.device))
        if states is None:
            shared = states_after_prompts(model, tokens.to(self.device), first, first + lengths - 1)
            whole = hidden_states(model, tokens.to(self.device)) if shared is None else shared
            chosen = whole[rows.to(self.device), (before if shared is None else columns).to(self.device)]
        else:
            chosen = states[packing.places[rows, before].to(self.device)]
        head = output_head(model)
        log_probs, entropies = token_log_probs(
            chosen,
            head.weight,
            steps.actions[rows, columns].to(self.device),
            bias=head.bias,
            temperature=self.options.temperature,
            scale=head.scale,
            soft_cap=head.soft_cap,
        )
        return Scores(_per_step(steps, log_probs), _per_step(steps, entropies)), chosen

    @contextmanager
    def watched(self, steps: Steps) -> Iterator[dict[str, float]]:
        """With a mixture of experts: how even the load of some steps is, and what part of it learning moves."""
        measured: dict[str, float] = {}
        if not routers(self.model) or len(steps) == 0:
            yield measured
            return
        tokens, first, lengths = joined(steps[_WATCHED], self.pad)
        mask = (torch.arange(tokens.shape[1]) < (first + lengths).unsqueeze(1)).to(self.device)
        before = experts_of(self.model, tokens.to(self.device), mask)
        yield measured
        measured["expert_violation"] = maximal_violation(loads_of(self.model, before))
        measured["expert_agreement"] = agreement(before, experts_of(self.model, tokens.to(self.device), mask))

    def make_reference(self) -> None:
        """Keep the model as it is now; see :meth:`as_reference`."""
        self.reference = self.as_reference()

    def as_reference(self) -> Reference:
        """The model as it is now: a copy of the weights that learn."""
        return Reference(self.model)

    def reference_log_probs(self, steps: Steps) -> Tensor:
        """(B, T) log-probabilities of the reference, without gradients."""
        if self.reference is None:
            raise ValueError("there is no reference; make_reference() keeps one")
        with torch.no_grad(), self.reference.model() as model:
            return torch.cat([self._score(model, steps[rows])[0].log_probs for rows in slices(len(steps))])

    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters of model and value head that learning changes; not those of the reference."""
        own = list(self.model.parameters()) + ([] if self.value_head is None else list(self.value_head.parameters()))
        return [parameter for parameter in own if parameter.requires_grad]

    # On disk

    @property
    def saved(self) -> Any:
        """The model that is written to disk; where it has adapters, they alone are."""
        return self.model

    def tensors(self) -> dict[str, Tensor]:
        """The value head; the model is among the files."""
        return {} if self.value_head is None else dict(self.value_head.state_dict())

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from :meth:`tensors`."""
        if self.value_head is not None:
            self.value_head.load_state_dict(dict(tensors))

    def save_artifacts(self, folder: Path) -> None:
        """Write the model and, where there is one, the reference, in Hugging Face's format."""
        write_model(self.saved, self.tokenizer, folder / "model")
        if self.reference is not None:
            with self.reference.model():
                write_model(self.saved, self.tokenizer, folder / "reference")

    def load_artifacts(self, folder: Path) -> None:
        """Continue from the files that :meth:`save_artifacts` wrote into ``folder``."""
        read_weights(self.saved, folder / "model")
        if (folder / "reference").is_dir():
            self.reference = self.reference or self.as_reference()
            with self.reference.model():
                read_weights(self.saved, folder / "reference")


def _per_step(steps: Steps, numbers: Tensor) -> Tensor:
    """(B, T) from a number for each step that exists, 0 elsewhere."""
    return torch.zeros(steps.mask.shape).masked_scatter(steps.mask, numbers.float().cpu())


def slices(rows: int, copies: int = 1) -> list[slice]:
    """Parts of a batch that memory has room for, where each row stands for so many."""
    size = max(1, _ROWS_AT_ONCE // copies)
    return [slice(first, first + size) for first in range(0, rows, size)]
