"""Two processes that learn together do what one does with the same batch."""

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from gridzero.agents import checkpoint, runs
from gridzero.envs.tasks import make_task
from gridzero.envs.tasks.vocabulary import Vocabulary
from gridzero.llm_rl.models.causal import tiny_model
from gridzero.llm_rl.models.pretrained import save_model
from gridzero.llm_rl.models.tokenizer import character_tokenizer

GRADIENTS = ["--entropy-coefficient", "0.1", "--minibatch-size", "48"]
EXAMPLES = ["--minibatch-size", "8", "--gradient-steps", "2", "--episode-limit", "8"]
AGENTS = {
    "grpo": [*GRADIENTS, "--groups", "4", "--group-size", "4", "--episode-limit", "8", "--kl-coefficient", "0.1"],
    "ppo": [*GRADIENTS, "--num-envs", "16", "--rollout-steps", "8", "--epochs", "2"],
    "sft": EXAMPLES,
    "dpo": [*EXAMPLES, "--labels", "drawn", "--sampling-size", "8"],
    "rejection-sampling": [*EXAMPLES, "--groups", "2", "--group-size", "8", "--threshold", "0"],
}


TASKS = {"addition": {"digits": 1}, "grid-walk": {"height": 2, "width": 2}}


@pytest.mark.parametrize(
    ("agent", "task"),
    [
        ("grpo", "addition"),
        *(pytest.param(name, "addition", marks=pytest.mark.slow) for name in AGENTS if name != "grpo"),
        pytest.param("grpo", "grid-walk", marks=pytest.mark.slow),  # in which conversations have several turns
    ],
)
def test_two_processes_learn_what_one_does(agent, task, tmp_path):
    vocabulary = Vocabulary.for_task(make_task(task, **TASKS[task]))
    model = tiny_model(len(vocabulary), width=16, layers=1, heads=2, positions=64)
    save_model(model, character_tokenizer(vocabulary), tmp_path / "tiny")
    command = ["-m", "gridzero", "train", agent, "--env", "gridzero/TextGeneration-v0", "--env.task", task]
    command += [word for name, value in TASKS[task].items() for word in (f"--env.{name}", str(value))]
    command += ["--policy.model", str(tmp_path / "tiny"), "--steps", "32", "--learning-rate", "1e-2"]
    command += ["--evaluation-episodes", "4"]
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", *command[1:]]
    for name, whole in (("one", command), ("two", together)):
        done = subprocess.run(
            [sys.executable, *whole, *AGENTS[agent], "--run", str(tmp_path / name)],
            capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    last = [checkpoint.latest(tmp_path / name / "checkpoints") for name in ("one", "two")]
    weights = [load_file(path / "model" / "model.safetensors") for path in last]
    initial = load_file(tmp_path / "tiny/model.safetensors")
    for name, weight in weights[0].items():
        np.testing.assert_allclose(weights[1][name], weight, atol=2e-4)
    moved = max(np.abs(weights[0][name] - initial[name]).max() for name in initial)
    assert moved > 5e-3
    states = [runs.load(tmp_path / name).state_dict() for name in ("one", "two")]
    assert states[0]["steps"] == states[1]["steps"] >= 32
    assert states[0]["rng"] == states[1]["rng"]
