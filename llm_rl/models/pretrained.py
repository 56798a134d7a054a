"""Language models on disk, in Hugging Face's own format: safetensors and JSON, never pickles, never code.

Everything is read from local files. A GGUF file, as llama.cpp has them, is read as well.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gridzero.agents import checkpoint, runs
from gridzero.agents.files import new_directory
from gridzero.envs.tasks.numbers import shown
from gridzero.llm_rl.models.adapted_model import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdaptedModel
from gridzero.llm_rl.models.cache import cache
from gridzero.llm_rl.models.causal import check_model
from gridzero.llm_rl.models.gguf import dequantised, is_gguf
from gridzero.llm_rl.models.image_families import image_family, takes_image_processor
from gridzero.llm_rl.models.llama import Llama
from gridzero.llm_rl.models.llama_config import LlamaConfig
from gridzero.llm_rl.models.llama_files import read_llama
from gridzero.llm_rl.models.peft import add_adapters, check_sizes, is_adapted

SHIPPED = Path(__file__).parent / "base-models"
_KINDS = ("LORA", "PREFIX_TUNING", "PROMPT_TUNING", "IA3", "BOTTLENECK")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


def load_model(
    path: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> tuple[Any, Any]:
    """A causal model and its tokenizer.

    Args:
        path: a folder in Hugging Face's format, of a model or of adapters to one, a GGUF file, or a run's name or path.
        dtype: of the weights; None: as they are in the file.
        device: where to.

    Returns:
        The model, in evaluation mode, and its tokenizer. Adapters stay adapters, and can be trained.

    Raises:
        ValueError: when there is no such thing, it is damaged or incomplete, its weights are pickles, it needs code of
            its own, or it is not a causal language model.
    """
    path = model_path(path)
    with _errors_in_one_line(path):
        if (path / ADAPTER_CONFIG).is_file():
            model, tokenizer = _read_adapted(path, dtype)
        else:
            model, tokenizer = _read_whole(path, dtype)
        _check_finite(model)
        model = model.to(device).eval()
    check_model(model)
    return model, tokenizer


def load_image_text_model(
    path: str | Path, *, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> tuple[Any, Any]:
    """A model of images and text, and its tokenizer; see :func:`load_model`.

    It has its image processor as ``image_processor``, and the folder of adapters to it, where ``path`` is of such, as
    ``adapters``: :func:`with_adapters` adds them to what sees with it.

    Args:
        path: a folder in Hugging Face's format, of a model or of adapters to one, or a run's name or path.
        dtype: of the weights; None: as they are in the file.
        device: where to.

    Raises:
        ValueError: as :func:`load_model` does.
    """
    import transformers

    path = model_path(path)
    with _errors_in_one_line(path):
        adapters = path if (path / ADAPTER_CONFIG).is_file() else None
        base = path if adapters is None else base_of(path)
        model = _read_model(base, dtype, transformers.AutoModelForImageTextToText)
        image_family(model)
        tokenizer = _read_tokenizer(base)
        template = base / "chat_template.json"  # where older folders have that of the processor
        if tokenizer.chat_template is None and template.is_file():
            tokenizer.chat_template = json.loads(template.read_text())["chat_template"]
        _read_image_processor(model, base)
        _check_finite(model)
        model.adapters = adapters
        return model.to(device).eval(), tokenizer


def _read_image_processor(model: Any, path: Path) -> None:
    """Give a model the image processor that its folder describes, and its settings, where it does."""
    import transformers

    described = [path / name for name in ("preprocessor_config.json", "processor_config.json")]
    found = next((file for file in described if file.is_file()), None)
    if found is None:
        return
    settings = json.loads(found.read_text())
    model.image_settings = settings.get("image_processor", settings)
    if takes_image_processor(model):
        auto: Any = transformers.AutoImageProcessor
        model.image_processor = auto.from_pretrained(
            str(path), backend="pil", local_files_only=True, trust_remote_code=False
        )


def model_path(name: str | Path) -> Path:
    """The folder or file of a model: of a path, or of the last checkpoint of a run, by its name or path.

    Raises:
        ValueError: when there is none.
    """
    path = Path(name).expanduser().absolute()
    if path.exists() and not (path / "checkpoints").is_dir():
        return path
    try:
        run = runs.find(path if path.exists() else name)
    except ValueError:
        raise ValueError(
            f"there is no model at {path}, and no such run: "
            "give a run, a folder in Hugging Face's format, or a .gguf file"
        ) from None
    last = checkpoint.latest(run / "checkpoints")
    if last is None:
        raise ValueError(f"{run} has no checkpoint yet")
    if not (last / "model").is_dir():
        raise ValueError(f"the run {run} has no language model")
    return (last / "model").absolute()


def save_model(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """Write a model, or its adapters where it has some, and its tokenizer to a new folder, whole or not at all.

    Raises:
        ValueError: when ``folder`` exists.
    """
    with new_directory(Path(folder)) as temporary:
        write_model(model, tokenizer, temporary)


def write_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model, or its adapters where it has some, and its tokenizer into a folder."""
    options: dict[str, Any] = {}
    if is_adapted(model):
        if not isinstance(model, AdaptedModel):
            options = {"save_embedding_layers": False, "selected_adapters": [model.active_adapter]}
        base = Path(model.active_peft_config.base_model_name_or_path or "")
        if base.parent in (SHIPPED, cache()):  # which may move
            model.active_peft_config.base_model_name_or_path = base.name
    elif model.config.model_type == "kimi_k25":
        # Under the names that its modules have: transformers' older ones take text's queries for the vision tower's.
        options = {"save_original_format": False}
    with _quiet():
        model.save_pretrained(folder, **options)
        tokenizer.save_pretrained(folder)
    settings = getattr(model, "image_settings", None)
    if settings is not None and not is_adapted(model):
        (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)  # peft's template of a card, empty


def read_weights(model: Any, folder: str | Path) -> None:
    """Give a model, or its adapters where it has some, the weights of a saved one of the same kind.

    Raises:
        ValueError: when they do not fit.
    """
    folder = Path(folder)
    with _errors_in_one_line(folder):
        if is_adapted(model):
            _read_adapters(model, folder)
        else:
            model.load_state_dict(_read_model(folder, model.dtype, type(model)).state_dict())
        _check_finite(model)


def _read_adapters(model: Any, folder: Path) -> None:
    """Give a model's adapters the weights of saved ones."""
    weights = load_file(folder / ADAPTER_WEIGHTS)
    if isinstance(model, AdaptedModel):
        model.load_adapter_weights(weights)
        return
    import peft

    if weights.keys() != peft.get_peft_model_state_dict(model, save_embedding_layers=False).keys():
        raise ValueError("its adapters are of other layers")
    peft.set_peft_model_state_dict(model, weights)


def _check_finite(model: Any) -> None:
    """Raise ValueError for weights with NaN or an infinity."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ValueError(f"its weights are not finite: {name}")


def _read_whole(path: Path, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """A model without adapters, and its tokenizer."""
    if not is_gguf(path):
        return _read_model(path, dtype), _read_tokenizer(path)
    found = dequantised(path, lambda path: (_read_model(path, torch.float32), _read_tokenizer(path)))
    if isinstance(found, Path):
        import transformers

        # By tokenizer.json alone: the class of the family would make its own of it.
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(**_source(found))
        found = _read_model(found, dtype), tokenizer
    model, tokenizer = found
    model.name_or_path = str(path)  # what adapters to it say they belong to
    return model.to(dtype or model.dtype), tokenizer


def _read_model(path: Path, dtype: torch.dtype | None, kind: Any = None) -> Any:
    """A model of one of Hugging Face's classes, or of those that one of its auto classes stands for, or a Llama.

    Without a ``kind`` it is a causal language model: ours where it is a plain Llama, since their module takes long to
    import.
    """
    where = _source(path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError("it has no config.json")
        if not any(path.glob("*.safetensors")):
            pickles = any(file.suffix in (".bin", ".pt", ".pth") for file in path.iterdir())
            raise ValueError("its weights are pickles, which are never read" if pickles else "it has no *.safetensors")
        llama = read_llama(path, dtype) if kind in (None, Llama) else None
        if llama is not None:
            return llama
    if kind is Llama:
        raise ValueError("its model is of another kind")
    import transformers

    kind = kind or transformers.AutoModelForCausalLM
    config = transformers.AutoConfig.from_pretrained(**where)
    if type(config) not in (kind._model_mapping if hasattr(kind, "_model_mapping") else (kind.config_class,)):
        wanted = (
            "an image-text model" if kind is transformers.AutoModelForImageTextToText else "a causal language model"
        )
        raise ValueError(f"a {config.model_type} is not {wanted}")
    # A name with a slash would be code to download.
    if any("/" in str(getattr(config, f"_{part}_implementation", None)) for part in ("attn", "experts")):
        raise ValueError("it asks for code of its own")
    model, loading = kind.from_pretrained(
        **where, config=config, dtype=dtype or "auto", use_safetensors=True, output_loading_info=True
    )
    if loading["missing_keys"]:
        raise ValueError(f"it lacks weights: {', '.join(sorted(loading['missing_keys'])[:3])}, …")
    model.name_or_path = str(path)  # of a GGUF file it would be its folder; adapters say by it what they belong to
    return model


def _read_tokenizer(path: Path) -> Any:
    if path.is_dir() and not any((path / name).is_file() for name in _TOKENIZERS):
        raise ValueError("it has no tokenizer")
    import transformers

    if _is_plain_tokenizer(path):
        return transformers.PreTrainedTokenizerFast.from_pretrained(**_source(path))
    return transformers.AutoTokenizer.from_pretrained(**_source(path))


def _is_plain_tokenizer(path: Path) -> bool:
    """Whether transformers reads the tokenizer of a Llama by ``tokenizer.json`` alone.

    Its class for that is light; the one that finds this out imports the class of the model's configuration.
    """
    files = [path / name for name in ("config.json", "tokenizer_config.json", "tokenizer.json")]
    if not all(file.is_file() for file in files):
        return False
    model, tokenizer = (json.loads(file.read_text()) for file in files[:2])
    plain = tokenizer.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return plain and "auto_map" not in tokenizer and LlamaConfig.of(model) is not None


def _read_adapted(path: Path, dtype: torch.dtype | None) -> tuple[Any, Any]:
    whole, tokenizer = _read_whole(base_of(path), dtype)
    model = with_adapters(whole, path)
    with_own = any((path / name).is_file() for name in _TOKENIZERS)
    return model, _read_tokenizer(path) if with_own else tokenizer


def with_adapters(model: Any, folder: Path) -> Any:
    """A model with the adapters in a folder, which alone can be trained then.

    Raises:
        ValueError: when they are of another model.
    """
    settings = json.loads((folder / ADAPTER_CONFIG).read_text())
    check_sizes(model, settings)
    adapted = add_adapters(model, settings)
    _read_adapters(adapted, folder)
    return adapted


def base_of(path: Path) -> Path:
    """The folder or file of the model that a folder of adapters is for.

    Raises:
        ValueError: for adapters that are not read here, or whose model is not there.
    """
    if not (path / ADAPTER_WEIGHTS).is_file():
        raise ValueError(f"it has no {ADAPTER_WEIGHTS}")
    config = json.loads((path / ADAPTER_CONFIG).read_text())
    kind = config.get("peft_type")
    if kind not in _KINDS:
        raise ValueError(f"its adapters are {kind}, not among {', '.join(_KINDS)}")
    # Each of these names something to import or to download, or weights that are not in the file.
    for name, allowed in (
        ("megatron_config", (None,)),
        ("prompt_tuning_init", (None, "RANDOM", "SAMPLE_VOCAB")),
        ("prefix_projection", (None, False)),
    ):
        if config.get(name) not in allowed:
            raise ValueError(f"its adapters have {name} {shown(str(config[name]))}, which is not read here")
    named = config.get("base_model_name_or_path")
    # A relative name is looked for beside the adapters and among the base models, too.
    folders = [folder / named for folder in (Path(), path, SHIPPED, cache())] if named else []
    base: Path | None = next((folder for folder in folders if folder.exists()), None)
    if base is None:
        raise ValueError(f"it holds adapters to {named or 'a model without a name'}, which is not here")
    base = base.absolute()
    if (base / ADAPTER_CONFIG).is_file():
        raise ValueError(f"it holds adapters to {base}, which holds adapters itself")
    return base


def _source(path: Path) -> dict[str, Any]:
    """Keywords that make transformers read local files alone, and run nothing."""
    where = {"pretrained_model_name_or_path": str(path)}
    if not path.is_dir():
        if path.suffix != ".gguf":
            raise ValueError("it is neither a folder nor a .gguf file")
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {**where, "local_files_only": True, "trust_remote_code": False}


@contextmanager
def _errors_in_one_line(path: Path) -> Iterator[None]:
    """Turn any error of reading into a ValueError of one line that names the path."""
    try:
        with _quiet():
            yield
    except ImportError as error:
        needed = "the package gguf" if "gguf" in str(error) else f"a package that is missing: {_first_line(error)}"
        raise ValueError(f"reading the model at {path} needs {needed}") from error
    except Exception as error:  # the libraries raise all kinds over a damaged file
        raise ValueError(f"the model at {path} cannot be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' progress bars and warnings."""
    import transformers

    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft uses what transformers will rename
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
