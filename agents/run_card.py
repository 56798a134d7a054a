"""The card of a run: a README.md that says what was trained, on what, how good it is, and how to load it."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gridzero.agents.presets import preset, preset_for
from gridzero.agents.registry import config_class
from gridzero.agents.runs import display_name

CARD = "README.md"


def card(path: Path, config: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """The text of a run's card, in Markdown.

    Args:
        path: of the run.
        config: what its ``config.json`` holds.
        evaluation: what its ``evaluation.json`` holds.
    """
    name = display_name(path)
    environment = config["environment"] or {"id": "an environment that is not registered", "kwargs": {}}
    rows = [("return", _interval(evaluation.get("mean"), evaluation.get("low"), evaluation.get("high")))]
    for key, words in (("expected_return", "expected return, exact"), ("optimum", "optimum"), ("gap", "gap")):
        rows.append((words, _number(evaluation.get(key))))
    success = (evaluation.get(f"success{end}") for end in ("", "_low", "_high"))
    rows.append(("success rate", _interval(*success)))
    for reward, (mean, low, high) in evaluation.get("rewards", {}).items():
        rows.append((reward, _interval(mean, low, high)))
    rows.append(("episode length", _number(evaluation.get("mean_length"))))
    table = "\n".join(f"| {words} | {text} |" for words, text in rows if text)
    settings = "\n".join(f"| `{key}` | `{json.dumps(value)}` |" for key, value in config["config"].items())
    warnings = "".join(f"\n{warning}\n" for warning in evaluation.get("warnings", ()))
    versions = ", ".join(f"{library} {version}" for library, version in config["versions"].items())
    return f"""# {name}

`{config["agent"]}` on `{environment["id"]}`, seed {config["seed"]}.

| over {evaluation["episodes"]} episodes | |
|---|---|
{table}
{warnings}
## Make it again

```sh
{command(config)}
```

## Load it

```python
import gridzero

agent = gridzero.agents.load({name!r})
```

`gridzero watch {shlex.quote(name)}` shows it, `gridzero train --run {shlex.quote(name)} --resume` goes on with it.

## Settings

| setting | value |
|---|---|
{settings}

Made with {versions}.
"""


def command(config: Mapping[str, Any]) -> str:
    """The command that trains such a run."""
    return " ".join(["gridzero", "train", *map(shlex.quote, _words(config))])


def _words(config: Mapping[str, Any]) -> Iterator[str]:
    yield config["agent"]
    for module in config.get("imports", ()):
        yield from ("--import", module)
    environment = config["environment"]
    if environment is not None:
        yield from ("--env", environment["id"])
        for key, value in environment["kwargs"].items():
            if value is not None and key != "autoreset_mode":  # of vectors made in Python
                yield from (f"--env.{key}", str(value))
        for wrapper in environment.get("wrappers", ()):
            yield from ("--wrapper", wrapper["entry_point"])
            for key, value in wrapper["kwargs"].items():
                yield from (f"--wrapper.{key}", str(value))
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(config_class(config["agent"]))
        if field.default is not dataclasses.MISSING
    }
    tuned = config["training"].get("preset")
    if environment is not None and tuned is None and preset_for(config["agent"], environment["id"]):
        tuned = "none"
    if tuned is not None:
        yield from ("--preset", tuned)
    if tuned not in (None, "none"):
        defaults |= preset(config["agent"], tuned).fields
    for key, value in config["config"].items():
        if value == _plain(defaults.get(key)):
            continue
        flag = key.replace("_", "-")
        if isinstance(value, Mapping):
            for option, given in value.items():
                yield from (f"--{flag}.{option.replace('_', '-')}", str(given))
        elif isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif isinstance(value, list):
            yield from (f"--{flag}", *map(str, value))
        else:
            yield from (f"--{flag}", str(value))
    if environment is not None and environment.get("num_envs") is not None:
        yield from ("--num-envs", str(environment["num_envs"]))
    for key in ("steps", "seconds", "evaluate_every", "stop_at"):
        if config["training"].get(key) is not None:
            yield from (f"--{key.replace('_', '-')}", str(config["training"][key]))
    yield from ("--seed", str(config["seed"]))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,.4f}"


def _interval(mean: Any, low: Any, high: Any) -> str:
    """A mean with its 95 % interval; empty where there is none."""
    return "" if mean is None else f"{_number(mean)} [{_number(low)}, {_number(high)}]"
