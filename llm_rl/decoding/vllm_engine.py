"""Writing with vLLM, where it is installed: an engine in this process that is given the model's weights as they are."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridzero.llm_rl.decoding.generate import Completions
from gridzero.llm_rl.decoding.sampling import Draws, Sampling
from gridzero.llm_rl.models.adapted_layers import LoRALayer
from gridzero.llm_rl.models.adapted_model import adapted_layers
from gridzero.llm_rl.models.peft import is_adapted

_MEMORY = 0.3  # of the GPU's, since learning needs the rest


def check_vllm(model: Any, sampling: Sampling) -> None:
    """Raise ValueError where vLLM is not installed, or cannot write as the model and the settings say."""
    if importlib.util.find_spec("vllm") is None:
        raise ValueError("--policy.decoder vllm needs the package vllm, which is not installed: pip install vllm")
    kinds = {type(layer) for layer in adapted_layers(model).values()}
    if is_adapted(model) and kinds != {LoRALayer}:
        raise ValueError("vLLM writes with whole models and with lora here; leave out --policy.decoder vllm")
    if sampling.temperature != 1 and (sampling.top_k or sampling.top_p < 1):
        raise ValueError("vLLM has no log-probabilities at a temperature before top_k and top_p; leave out one of them")


class VLLMEngine:
    """vLLM with the weights of a model, which it is given anew before it writes.

    Draws depend on the generator that is passed, but are not those of the other decoders, and its log-probabilities
    differ a little from those that learning computes: ``--rescore`` has these used.

    Args:
        model: a causal model, whole or with lora.
        temperature: that the log-probabilities are at.

    Source: Kwon et al. (2023), Efficient memory management for large language model serving with PagedAttention.
    """

    def __init__(self, model: Any, temperature: float) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # weights are put in from this process
        self.vllm: Any = importlib.import_module("vllm")
        self.model = model
        parameter = next(model.parameters())
        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            self.llm = self.vllm.LLM(
                model=folder,
                skip_tokenizer_init=True,
                load_format="dummy",  # no weights: they are put in before anything is written
                dtype=str(parameter.dtype).removeprefix("torch."),
                gpu_memory_utilization=_MEMORY,
                logprobs_mode="raw_logprobs" if temperature == 1 else "processed_logprobs",
                disable_log_stats=True,
            )

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        copies: int,
        sampling: Sampling,
        *,
        end: Sequence[int],
        pad: int,
        rng: np.random.Generator | Draws,
        limits: Sequence[int] | None = None,
    ) -> Completions:
        """Complete each prompt ``copies`` times; see :func:`~gridzero.llm_rl.decoding.generate.generate`."""
        rows = [list(prompt) for prompt in prompts for _ in range(copies)]
        bounds = [sampling.max_tokens] * len(rows)
        if limits is not None:
            bounds = [min(sampling.max_tokens, int(limit)) for limit in limits]
        seeds = (rng.random((1, len(rows)), dtype=np.float32)[0] * 2**24).astype(int).tolist()
        settings = [
            self.vllm.SamplingParams(
                temperature=0.0 if sampling.greedy else sampling.temperature,
                top_k=sampling.top_k or -1,
                top_p=sampling.top_p,
                max_tokens=bound,
                stop_token_ids=list(end),
                ignore_eos=True,  # the end tokens are those of the policy alone
                logprobs=0,
                seed=seed,
                detokenize=False,
            )
            for bound, seed in zip(bounds, seeds, strict=True)
        ]
        self._put_weights()
        outputs = self.llm.generate([{"prompt_token_ids": row} for row in rows], settings, use_tqdm=False)
        written = [list(output.outputs[0].token_ids) for output in outputs]
        scores = [
            [place[token].logprob for token, place in zip(tokens, output.outputs[0].logprobs, strict=True)]
            for tokens, output in zip(written, outputs, strict=True)
        ]
        return _completions(written, scores, end, pad, next(self.model.parameters()).device)

    def _put_weights(self) -> None:
        runner = self.llm.llm_engine.model_executor.driver_worker.model_runner
        runner.model.load_weights(plain_weights(self.model))
        self.llm.reset_prefix_cache()


@torch.no_grad()
def plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Names and weights of a model without adapters, those of lora added to what they adapt."""
    adapted = adapted_layers(model)
    for name, weight in model.state_dict().items():
        place, _, own = name.rpartition(".")
        layer = adapted.get(place.removesuffix(".base_layer"))
        if layer is None and ".lora_" not in name:
            yield name.removeprefix("base_model.model."), weight
        elif layer is not None and (found := layer.effective()) is not None:
            plain = place.removeprefix("base_model.model.").removesuffix(".base_layer")
            yield f"{plain}.{own}", found[0].to(weight.dtype) if own == "weight" else weight


def _completions(
    written: Sequence[list[int]], scores: Sequence[list[float]], end: Sequence[int], pad: int, device: torch.device
) -> Completions:
    lengths = torch.tensor([len(tokens) for tokens in written])
    width = int(lengths.max())
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row in written])
    log_probs = torch.tensor([row + [0.0] * (width - len(row)) for row in scores])
    ended = torch.tensor([row[-1] in end for row in written])
    return Completions(tokens.to(device), log_probs.to(device), lengths.to(device), ended.to(device))
