"""``gridzero export``: what a run learnt, as other libraries read it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from gridzero.agents.files import new_directory
from gridzero.agents.runs import Which
from gridzero.commands.arguments import parse
from gridzero.envs.folders import check_folder

MODEL, ADAPTER = "model", "adapter_config.json"
"""Folder of a language model in a checkpoint, and the file in it that makes it one of adapters."""


@dataclass(frozen=True)
class Options:
    """Write what a run learnt as other libraries read it.

    Language models become a folder in Hugging Face's format, with the run's card, as `transformers` loads it and its hub takes it; algorithms of Stable-Baselines3 its zip; networks of PPO and GRPO an ONNX file from observations to logits (to means, of continuous actions).

    Example: gridzero export cartpole --output cartpole.onnx
    """  # noqa: E501  (the terminal wraps it)

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]] = ""
    """Name of a run, or its path."""
    output: Path | None = None
    """File or folder to write; the run's name, with .zip or .onnx, if not given."""
    from_: Annotated[Which, tyro.conf.arg(name="from")] = None
    """The step of the checkpoint, or "best" by the evaluations on the way; the last one if not given."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    options = parse(Options, argv, "export")
    if not options.run:
        raise ValueError("which run? `gridzero export RUN`")
    from gridzero.agents import runs

    path = runs.find(options.run)
    agent, manifest = runs.load_checkpoint(path, step=options.from_)
    folder = path / "checkpoints" / str(manifest["training"].get("step"))
    output, hint = _write(agent, path, folder, options.output)
    print(f"{agent.name} at step {manifest['training'].get('step', 0):,} is in {output}: {hint}")
    return 0


def _write(agent: Any, run: Path, checkpoint: Path, output: Path | None) -> tuple[Path, str]:
    """Write the export; gives where it is and how it is loaded."""
    if (checkpoint / MODEL).is_dir():
        target = _free(output or Path(run.name))
        with new_directory(target) as folder:
            shutil.copytree(checkpoint / MODEL, folder, dirs_exist_ok=True)
            if (run / "README.md").is_file():
                shutil.copy(run / "README.md", folder / "README.md")
            adapters = (folder / ADAPTER).is_file()
            if adapters:
                from gridzero.llm_rl.models.pretrained import base_of

                # A base model of ours has a name that says nothing to peft.
                settings = json.loads((folder / ADAPTER).read_text())
                settings["base_model_name_or_path"] = str(base_of(checkpoint / MODEL))
                (folder / ADAPTER).write_text(json.dumps(settings, indent=2) + "\n")
        kind = "peft.AutoPeftModelForCausalLM" if adapters else "transformers.AutoModelForCausalLM"
        return target, f"{kind}.from_pretrained({str(target)!r})"
    algorithm = getattr(agent, "algorithm", None)
    if algorithm is not None:
        target = _free(_file(output, run, ".zip", agent))
        agent.model.save(target)
        return target, f"{algorithm.__module__.partition('.')[0]}.{algorithm.__name__}.load({str(target)!r})"
    from gridzero.agents.neural.networks.mlp_policy import MLPPolicy

    network = getattr(agent, "network", None)
    if not isinstance(network, MLPPolicy):
        raise ValueError(
            f"{agent.name} has no format of another library; its checkpoints hold its tables as safetensors"
        )
    target = _free(_file(output, run, ".onnx", agent))
    from gridzero.agents.neural.networks.onnx_export import OUTPUT, write_onnx

    write_onnx(network, agent.vector.single_observation_space, target)
    return target, f"onnxruntime.InferenceSession({str(target)!r}); its output is {OUTPUT!r}"


def _file(output: Path | None, run: Path, suffix: str, agent: Any) -> Path:
    """The file to write, by default of the run's name; a name without a suffix gets the right one.

    Raises:
        ValueError: for another suffix.
    """
    if output is None:
        return Path(f"{run.name}{suffix}")
    if output.suffix not in ("", suffix):
        raise ValueError(f"{agent.name} is exported to {suffix}, not {output.suffix}")
    return output.with_suffix(suffix)


def _free(target: Path) -> Path:
    """The path, where nothing is yet.

    Raises:
        ValueError: when there is something, or no folder to write into.
    """
    if target.exists():
        raise ValueError(f"{target} exists; --output takes another name")
    check_folder(target.parent)
    return target
