"""Words of the command line about an environment, its wrappers and the policy in it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gridzero.agents.environments import Description, find_spec, parameters
from gridzero.agents.wrappers import Wrapper, wrapper_parameters
from gridzero.commands.arguments import dotted_options, split_dotted, take_repeated
from gridzero.envs.suggestions import closest


@dataclass(frozen=True)
class EnvironmentWords:
    """Words of the command line about the environment, its id aside.

    Attributes:
        options: of ``--env.KEY VALUE``, by key.
        wrappers: of ``--wrapper module:Class``, the innermost first.
        wrapper_options: of ``--wrapper.KEY VALUE``; each is for the one wrapper that takes such a keyword.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    wrappers: Sequence[str] = ()
    wrapper_options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def split(cls, arguments: Sequence[str]) -> tuple[EnvironmentWords, list[str]]:
        """Take them out of the arguments; ``--reward NAME`` says the same as ``--env.rewards``."""
        options, rest = split_dotted("env", arguments)
        rewards, rest = take_repeated("--reward", rest)
        if rewards and "rewards" in options:
            raise ValueError("--reward says what --env.rewards says: give one of them")
        if rewards:
            options["rewards"] = ",".join(rewards)
        wrapper_options, rest = split_dotted("wrapper", rest)
        wrappers, rest = take_repeated("--wrapper", rest)
        return cls(options, wrappers, wrapper_options), rest

    def __bool__(self) -> bool:
        return bool(self.options or self.wrappers or self.wrapper_options)

    def described(self, env_id: str) -> Description:
        """The environment as data, as :func:`~gridzero.agents.environments.remake` takes it.

        Raises:
            ValueError: for an unknown environment, keyword or wrapper, or a word that is not of the type.
        """
        kwargs = environment_options(env_id, self.options)
        return {"id": find_spec(env_id).id, "kwargs": kwargs, "wrappers": self._wrappers()}

    def _wrappers(self) -> list[Wrapper]:
        known = [wrapper_parameters(entry_point) for entry_point in self.wrappers]
        words: list[dict[str, str]] = [{} for _ in known]
        for name, text in self.wrapper_options.items():
            takers = [i for i, parameters in enumerate(known) if name in parameters]
            if len(takers) > 1:
                owners = " and ".join(self.wrappers[i] for i in takers)
                raise ValueError(f"--wrapper.{name} is ambiguous: {owners} take it; give one of them in Python")
            if not takers:
                names = [name for parameters in known for name in parameters]
                hint = closest(name, names) if names else "they take none" if known else "there is no --wrapper"
                raise ValueError(f"no wrapper takes {name!r}; {hint}")
            words[takers[0]][name] = text
        return [
            {"entry_point": entry_point, "kwargs": dotted_options("wrapper", entry_point, parameters, own)}
            for entry_point, parameters, own in zip(self.wrappers, known, words, strict=True)
        ]


def environment_options(env_id: str, given: Mapping[str, str]) -> dict[str, Any]:
    """The keywords of an environment from the words of the command line, each of the type its constructor asks for.

    Raises:
        ValueError: for an unknown environment or keyword, or a word that is not of the type.
    """
    return dotted_options("env", env_id, parameters(env_id, given), given)


def environment_help(env_id: str, given: Mapping[str, str] | None = None) -> str:
    """The options of an environment with their defaults, for the help of a command.

    Args:
        env_id: a registered id.
        given: options that are decided; a task says which others there are.

    >>> environment_help("FrozenLake-v1").splitlines()[1]
    "--env.desc None, --env.map_name '4x4', --env.is_slippery True, --env.success_rate 0.33..., ..."
    """
    defaults = find_spec(env_id).kwargs
    words = []
    for name, parameter in parameters(env_id, given).items():
        default = defaults.get(name, parameter.default)
        words.append(f"--env.{name}" + ("" if default is parameter.empty else f" {default!r}"))
    return f"Options of {env_id}, with their defaults (None: the map's own, or none):\n" + ", ".join(words)


def policy_options(env: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """The options of the policy of such environments from the words of the command line.

    Raises:
        ValueError: for an unknown option, a word that is not of the type, or a policy without options.
    """
    known = _policy_parameters(env)
    if not known:
        raise ValueError(
            f"the policy for {env.spec.id} has no options of its own, such as --policy.{next(iter(given))}"
        )
    return dotted_options("policy", f"the policy for {env.spec.id}", known, given)


def policy_help(env: Any) -> str:
    """The options of the policy with their defaults, for the help of a command; empty where there are none."""
    known = _policy_parameters(env)
    words = ", ".join(f"--policy.{name} {parameter.default!r}" for name, parameter in known.items())
    return f"\n\nOptions of the policy, with their defaults:\n{words}" if known else ""


def _policy_parameters(env: Any) -> Mapping[str, inspect.Parameter]:
    from gridzero.agents.registry import find_policy
    from gridzero.agents.spaces import spaces_of

    options = find_policy(*spaces_of(env)).policy_class().Options
    return {} if options is None else inspect.signature(options, eval_str=True).parameters
