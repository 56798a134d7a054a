"""The options of a language model as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch

from gridzero.agents.config_checks import check_choice
from gridzero.envs.suggestions import closest
from gridzero.envs.tasks.task import Task
from gridzero.llm_rl.decoding.sampling import Sampling
from gridzero.llm_rl.models.causal import Architecture
from gridzero.llm_rl.models.peft import add_bottleneck, add_ia3, add_lora, add_prefix, add_prompt


@dataclass(frozen=True)
class LanguageOptions:
    """The options of a language model as a policy: ``--policy.KEY VALUE``."""

    model: str | None = None
    """A run, a folder in Hugging Face's format, or a GGUF file; by default a tiny model warmed up on the task's
    solutions. What is given learns like pretrained models, where nothing else is said: at a rate of 1e-6, constant in
    reinforcement learning, and from examples at 1e-5 or less."""
    text: Architecture = "llama"
    """Architecture of a new tiny model, or of the text side of one that sees: "llama", "qwen3", or "deepseek_v3", which
    has a mixture of experts."""
    chat: str = "auto"
    """Whether the tokenizer's chat template is around prompts: "on", "off", or "auto": where it has one and the task's
    template is no conversation itself."""
    stop: str = "end"
    """What ends a completion: "end", an end token; "line", the end of a line too, for base models that do not end."""
    temperature: float = 1.0
    """Divides the logits, in acting and in learning."""
    top_k: int = 0
    """Act with the k most likely tokens; 0: all."""
    top_p: float = 1.0
    """Act with the most likely tokens that have this much probability together."""
    peft: str | None = None
    """Train few weights in place of all: "lora", "prefix", "prompt", "ia3" or "bottleneck"; by default all."""
    peft_rank: int = 8
    """Rank of lora's matrices, width of a bottleneck."""
    peft_alpha: float = 16.0
    """lora's changes of the weights count peft_alpha / peft_rank."""
    peft_targets: str = "all-linear"
    """Names of the layers that lora adapts, with commas between, or "all-linear"."""
    peft_tokens: int = 16
    """Learned tokens of a prefix or a prompt."""
    decoder: str = "auto"
    """What writes completions: "auto", the fastest of the decoders here; or "vllm", where it is installed."""
    gradient_checkpointing: bool = False
    """Keep the states between layers only, and compute the rest again for the gradient: less memory, a third more
    time."""
    dtype: str = "auto"
    """"float32", "bfloat16", or "auto": bfloat16 on a GPU."""
    device: str = "auto"
    """"cpu", "cuda", or "auto"."""

    def __post_init__(self) -> None:
        """Raise ValueError for an option out of range or an unknown choice."""
        Sampling(self.temperature, self.top_k, self.top_p)
        check_choice(self, "peft", _SETTINGS)
        for name, field in type(self).__dataclass_fields__.items():
            kinds = [kind for kind, settings in _SETTINGS.items() if name in settings]
            if kinds and getattr(self, name) != field.default and self.peft not in kinds:
                raise ValueError(f"{name} is of --policy.peft {' or '.join(kinds)}")
        if self.model is not None and self.text != "llama":
            raise ValueError("text is of a new tiny model, and --policy.model names one that has an architecture")
        check_choice(self, "text", get_args(Architecture))
        check_choice(self, "chat", ("auto", "on", "off"))
        check_choice(self, "stop", ("end", "line"))
        check_choice(self, "decoder", ("auto", "vllm"))
        check_choice(self, "dtype", ("auto", "float32", "bfloat16"))
        check_choice(self, "device", ("auto", "cpu", "cuda"))


# The settings of each kind of adapter.
_SETTINGS = {
    "lora": ("peft_rank", "peft_alpha", "peft_targets"),
    "prefix": ("peft_tokens",),
    "prompt": ("peft_tokens",),
    "ia3": (),
    "bottleneck": ("peft_rank",),
}


def adapt(model: Any, options: LanguageOptions, *, seed: int) -> Any:
    """The model with the adapters that the options name, which alone can be trained then; without any, as it is.

    Raises:
        ValueError: for a model that has adapters already, or cannot have these.
    """
    match options.peft:
        case "lora":
            targets: Any = options.peft_targets
            targets = targets if targets == "all-linear" else targets.split(",")
            return add_lora(model, options.peft_rank, options.peft_alpha, targets, seed=seed)
        case "prefix":
            return add_prefix(model, options.peft_tokens, seed=seed)
        case "prompt":
            return add_prompt(model, options.peft_tokens, seed=seed)
        case "ia3":
            return add_ia3(model)
        case "bottleneck":
            return add_bottleneck(model, options.peft_rank, seed=seed)
    return model


def language_options(given: Mapping[str, Any]) -> LanguageOptions:
    """Options from their names and values.

    Raises:
        ValueError: for an unknown name or a value that is not allowed.
    """
    known = LanguageOptions.__dataclass_fields__
    for name in given:
        if name not in known:
            raise ValueError(f"a language model has no option {name!r}; {closest(name, known)}")
    return LanguageOptions(**given)


def device_of(name: str) -> torch.device:
    """The device that an option names."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU that torch can use; --policy.device cpu")
    return torch.device(name)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The type of weights that an option names, on this device."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def uses_chat(tokenizer: Any, options: LanguageOptions, task: Task | None) -> bool:
    """Whether the tokenizer's chat template is used.

    Raises:
        ValueError: when it is to be, and there is none.
    """
    has_one = getattr(tokenizer, "chat_template", None) is not None
    if options.chat == "on" and not has_one:
        raise ValueError("the model's tokenizer has no chat template; leave out --policy.chat on")
    if options.chat != "auto":
        return options.chat == "on"
    return has_one and not (task is not None and task.template.is_conversation)
