"""A task of gridzero under TRL's GRPOTrainer, as one would write it without gridzero's command line.

The model is the tiny one warmed up on addition; any causal model and tokenizer of Hugging Face's will do in its place.
(`gridzero train trl-grpo --env gridzero/TextGeneration-v0` does the same with gridzero's settings, runs and
evaluation.)

    python scripts/examples/trl_grpo.py --steps 10240

Leaves out: LoRA, several processes, vLLM, all of which TRL has.
Needs: pip install 'gridzero[trl]'
"""

import argparse
import tempfile
from typing import Any

import numpy as np
import torch
from trl import GRPOConfig, GRPOTrainer

from gridzero.envs.tasks import make_task
from gridzero.llm_rl.decoding.generate import Sampling, generate
from gridzero.llm_rl.integrations.task_exports import trl_dataset, trl_reward
from gridzero.llm_rl.models.llama_files import as_transformers
from gridzero.llm_rl.policies.base_models import base_model

GROUP, BATCH = 8, 64


def main() -> None:
    """Train, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_240, help="completions")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    task = make_task("addition")
    model, tokenizer = base_model(task)
    print(f"{accuracy(model, tokenizer):.0%} of held-out additions right")
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder,
            max_steps=max(1, steps // BATCH),
            per_device_train_batch_size=BATCH,
            num_generations=GROUP,
            max_completion_length=64,
            learning_rate=3e-4,
            temperature=1.0,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
        )
        trainer = GRPOTrainer(
            model=as_transformers(model),
            processing_class=tokenizer,
            reward_funcs=trl_reward(task, end=[tokenizer.eos_token_id]),
            train_dataset=trl_dataset(task, size=max(BATCH, steps // GROUP)),
            args=arguments,
        )
        trainer.train()
    print(f"{accuracy(model, tokenizer):.0%} of held-out additions right after {steps} completions")


def accuracy(model: Any, tokenizer: Any, count: int = 100) -> float:
    """The share of held-out problems that the most likely completion answers."""
    task = make_task("addition", split="held-out")
    rng = np.random.default_rng(0)
    problems = [task.sample(rng) for _ in range(count)]
    prompts = [tokenizer.encode(task.prompt(problem)) for problem in problems]
    greedy = Sampling(greedy=True, max_tokens=64)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    written = generate(model, prompts, 1, greedy, end=[end], pad=pad, rng=rng)
    texts = tokenizer.batch_decode(written.tokens, skip_special_tokens=True)
    return float(np.mean([task.verify(problem, text).correct for problem, text in zip(problems, texts, strict=True)]))


if __name__ == "__main__":
    main()
