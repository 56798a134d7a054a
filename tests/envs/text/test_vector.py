"""What both text environments promise: streams, verdicts paid, autoreset, saving; each held against the task itself."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

import gridzero  # noqa: F401 - registers the environments
from gridzero.agents.environments import describe, make_environment, parameters
from gridzero.commands.environment_words import environment_options
from gridzero.envs.tasks import TASKS
from gridzero.envs.tasks.task import held_out

TEXT, TOKEN = "gridzero/TextGeneration-v0", "gridzero/TokenGeneration-v0"
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": (TEXT, {"task": "addition", "digits": 1}),
    "turns": (TEXT, {"task": "grid-walk", "height": 2, "width": 3, "turns": 3, "template": "plain"}),
    "picture": (TEXT, {"task": "grid-path", "height": 2, "width": 3, "pixels": 4}),
    "picture turns": (
        TEXT,
        {"task": "grid-walk", "height": 2, "width": 3, "turns": 3, "template": "plain", "pixels": 4},
    ),
    "tokens": (TOKEN, {"task": "addition", "digits": 1, "template": "plain", "max_tokens": 3, "context": 6}),
    "token turns": (
        TOKEN,
        {"task": "grid-walk", "height": 2, "width": 3, "turns": 3, "template": "plain", "max_tokens": 2},
    ),
    "index": (
        TOKEN,
        {"digits": 1, "template": "plain", "max_tokens": 2, "writable": "0123", "distinct": 7, "observation": "index"},
    ),
}
MODES = list(AutoresetMode)


def make(world: str, num_envs: int | None = None, **options: Any) -> Any:
    name, given = WORLDS[world]
    if num_envs is None:
        return gym.make(name, **given, **options)
    return gym.make_vec(name, num_envs=num_envs, **given, **options)


def player(world: str, env: Any, seed: int) -> Callable[[], Any]:
    """Draws single actions that end episodes and answer rightly often enough."""
    rng = np.random.default_rng(seed)
    if WORLDS[world][0] == TOKEN:
        space = env.unwrapped.single_action_space if hasattr(env, "num_envs") else env.action_space
        return lambda: int(rng.integers(space.n))
    pieces = ["<think>", "</think>", "<answer>", "</answer>", " ", "R", "D", "7", "11"]
    form = "<think></think> <answer>{}</answer>" if world in ("text", "picture") else "{}"

    def text() -> str:
        if rng.random() < 0.3:
            return "".join(rng.choice(pieces, size=rng.integers(6)))
        return form.format(rng.integers(19) if world == "text" else rng.choice(["R", "D", "L"]))

    return text


def batch(world: str, actions: list[Any]) -> Any:
    return tuple(actions) if WORLDS[world][0] == TEXT else np.array(actions)


def rows(observations: Any) -> list[Any]:
    """Observations of a vector, one by one."""
    if not isinstance(observations, dict):
        return list(observations)
    return [dict(zip(observations, values, strict=True)) for values in zip(*observations.values(), strict=True)]


def same(ours: Any, theirs: Any) -> bool:
    return bool(data_equivalence(ours, theirs, exact=True))


def one(info: dict[str, Any], i: int) -> dict[str, Any]:
    return {name: values.tolist()[i] for name, values in info.items() if not name.startswith(("_", "final"))}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("world", WORLDS)
def test_a_vector_does_what_single_environments_do(world: str, mode: AutoresetMode) -> None:
    n, seeds = 3, [5, 6, 5]
    envs, singles = make(world, n, autoreset_mode=mode), [make(world) for _ in range(n)]
    draw = player(world, envs, 0)
    observations, infos = envs.reset(seed=seeds)
    for i, single in enumerate(singles):
        observation, info = single.reset(seed=seeds[i])
        assert same(rows(observations)[i], observation)
        assert one(infos, i) == info
    done, right, ended = np.zeros(n, dtype=np.bool_), 0, 0
    for _ in range(60):
        actions = [draw() for _ in range(n)]
        observations, rewards, terminated, truncated, infos = envs.step(batch(world, actions))
        for i, single in enumerate(singles):
            if mode is AutoresetMode.NEXT_STEP and done[i]:
                expected: Any = (*single.reset(), 0.0, False)
                observation, info, reward, over = expected
            else:
                observation, reward, over, _, info = single.step(actions[i])
                right, ended = right + info["correct"], ended + over
            if mode is AutoresetMode.SAME_STEP and over:
                assert same(infos["final_obs"][i], observation)
                assert one(infos["final_info"], i) == info
                assert infos["_final_obs"][i]
                assert infos["_final_info"][i]
                observation, info = single.reset()
            assert same(rows(observations)[i], observation)
            assert rewards[i] == reward
            assert terminated[i] == over
            assert not truncated[i]
            assert one(infos, i) == info
        done = terminated | truncated
        if mode is AutoresetMode.DISABLED and done.any():
            observations, _ = envs.reset(options={"reset_mask": done})
            for i in np.flatnonzero(done):
                assert same(rows(observations)[i], singles[i].reset()[0])
    assert ended >= 20
    assert right > 0 or "token" in world  # random tokens are seldom right


def types(info: dict[str, Any]) -> dict[str, Any]:
    """What each entry is: a type, or the dtype and shape of an array."""
    return {
        key: (value.dtype, value.shape) if isinstance(value, np.ndarray) else type(value)
        for key, value in info.items()
        if key.removeprefix("_") not in ("final_obs", "final_info")
    }


@pytest.mark.parametrize("rewards", ["correct,form=0.1", "correct,brevity=0.5"])
@pytest.mark.parametrize("mode", [None, *MODES])
@pytest.mark.parametrize("world", WORLDS)
def test_infos_have_the_same_keys_and_types_from_reset_to_end(
    world: str, mode: AutoresetMode | None, rewards: str
) -> None:
    env = make(world, rewards=rewards) if mode is None else make(world, 3, rewards=rewards, autoreset_mode=mode)
    draw = player(world, env, 0)
    _, info = env.reset(seed=0)
    expected, ends = types(info), 0
    assert ("reward/brevity" in expected) == ("brevity" in rewards)
    for _ in range(60):
        _, _, terminated, truncated, info = env.step(draw() if mode is None else [draw() for _ in range(3)])
        assert types(info) == expected
        if "final_info" in info:
            assert types(info["final_info"]) == expected
        done = np.logical_or(terminated, truncated)
        ends += int(done.sum())
        if mode is None and done:
            assert types(env.reset()[1]) == expected
        elif mode is AutoresetMode.DISABLED and done.any():
            assert types(env.reset(options={"reset_mask": done})[1]) == expected
    assert ends > 5


@pytest.mark.parametrize("world", WORLDS)
def test_an_environment_depends_on_neither_how_many_there_are_nor_what_others_do(world: str) -> None:
    few, many = make(world, 2), make(world, 5)
    draw, noise = player(world, few, 1), player(world, few, 2)
    ours, theirs = few.reset(seed=3)[0], many.reset(seed=3)[0]
    for _ in range(40):
        assert same(rows(ours), rows(theirs)[:2])
        actions = [draw(), draw()]
        ours = few.step(batch(world, actions))[0]
        theirs = many.step(batch(world, actions + [noise() for _ in range(3)]))[0]


@pytest.mark.parametrize("world", WORLDS)
def test_equal_seeds_mean_equal_problems_and_other_seeds_others(world: str) -> None:
    envs = make(world, 12)
    envs.reset(seed=[4] * 4 + list(range(8)))
    problems = envs.unwrapped.problems
    assert all(problem == problems[0] for problem in problems[:4])
    assert problems[8] == problems[0]
    assert len({problem.question for problem in problems[4:]}) > 1


@pytest.mark.parametrize("world", WORLDS)
def test_a_masked_reset_touches_nothing_else(world: str) -> None:
    envs = make(world, 4, autoreset_mode="Disabled")
    before, _ = envs.reset(seed=0)
    problems = list(envs.unwrapped.problems)
    after, _ = envs.reset(seed=9, options={"reset_mask": np.array([True, False, False, True])})
    assert same(rows(before)[1:3], rows(after)[1:3])
    assert envs.unwrapped.problems[1:3] == problems[1:3]
    fresh = make(world, 4, autoreset_mode="Disabled")
    fresh.reset(seed=9)
    assert [envs.unwrapped.problems[i] for i in (0, 3)] == [fresh.unwrapped.problems[i] for i in (0, 3)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("world", WORLDS)
def test_what_is_saved_goes_on_alike_elsewhere(world: str, mode: AutoresetMode) -> None:
    envs, other = make(world, 3, autoreset_mode=mode), make(world, 3, autoreset_mode=mode)
    other.reset(seed=99)
    draw = player(world, envs, 3)

    def go(env: Any, actions: Any) -> Any:
        result = env.step(actions)
        done = result[2] | result[3]
        if mode is AutoresetMode.DISABLED and done.any():
            return result, env.reset(options={"reset_mask": done})
        return result

    envs.reset(seed=1)
    for step in range(40):
        actions = batch(world, [draw() for _ in range(3)])
        if step % 5 == 4:
            state = envs.unwrapped.get_state()
            state["completions"] = json.loads(json.dumps(state["completions"]))
            restored = other.unwrapped.set_state(copy.deepcopy(state))
            assert restored in other.observation_space
            again = go(other, actions)
            assert same(again, go(envs, actions))
        else:
            go(envs, actions)


@pytest.mark.parametrize("world", WORLDS)
def test_a_single_one_that_is_saved_goes_on_alike(world: str) -> None:
    env, other = make(world), make(world)
    draw = player(world, env, 5)
    observation, _ = env.reset(seed=2)
    for _ in range(20):
        assert same(other.unwrapped.set_state(env.unwrapped.get_state()), observation)
        assert other.unwrapped.problem == env.unwrapped.problem
        observation, _, over, _, _ = env.step(draw())
        if over:
            observation, _ = env.reset()


@pytest.mark.parametrize("world", ["turns", "tokens"])
def test_the_time_limit_is_gymnasiums(world: str) -> None:
    envs, singles = make(world, 2, max_episode_steps=2), [make(world, max_episode_steps=2) for _ in range(2)]
    draw = player(world, envs, 0)
    envs.reset(seed=[0, 1])
    for i, single in enumerate(singles):
        single.reset(seed=i)
    cut, done = 0, np.zeros(2, dtype=np.bool_)
    for _ in range(40):
        actions = [draw(), draw()]
        _, rewards, terminated, truncated, _ = envs.step(batch(world, actions))
        for i, single in enumerate(singles):
            if done[i]:
                single.reset()
            else:
                assert single.step(actions[i])[1:4] == (rewards[i], terminated[i], truncated[i])
        cut += int((truncated & ~terminated).sum())
        done = terminated | truncated
    assert cut > 0


@pytest.mark.parametrize("name", [TEXT, TOKEN])
def test_learning_and_evaluation_never_meet_one_problem(name: str) -> None:
    envs: Any = gym.make_vec(name, num_envs=200, digits=2).unwrapped
    assert envs.evaluation_options == {"split": "held-out"}
    other: Any = gym.make_vec(name, num_envs=200, digits=2, **envs.evaluation_options).unwrapped
    envs.reset(seed=0)
    other.reset(seed=0)
    assert not any(held_out("addition", envs.task.key(problem)) for problem in envs.problems)
    assert all(held_out("addition", envs.task.key(problem)) for problem in other.problems)
    for options in ({"split": "all"}, {"split": "held-out"}, {"distinct": 5}):
        assert gym.make(name, digits=2, **options).unwrapped.evaluation_options == {}  # type: ignore[attr-defined]


def test_distinct_problems_are_few_different_and_the_same_for_all() -> None:
    envs: list[Any] = [gym.make_vec(name, num_envs=300, digits=2, distinct=6).unwrapped for name in (TEXT, TOKEN)]
    seen = []
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
        seen.append({problem.question for problem in env.problems})
    assert seen[0] == seen[1]
    assert len(seen[0]) == 6
    # Each comes up about 50 times of 300: five standard deviations of a binomial are 32.
    counts = [sum(problem.question == question for problem in envs[0].problems) for question in seen[0]]
    assert max(abs(count - 50) for count in counts) < 32


def test_one_digit_has_a_hundred_problems_and_no_more() -> None:
    env: Any = gym.make(TEXT, digits=1, split="all", distinct=100).unwrapped
    assert {problem.question for problem in env._vector.distinct_problems} == {
        f"{a}+{b}=" for a in range(10) for b in range(10)
    }
    with pytest.raises(ValueError, match="addition has only 100 problems, not 101"):
        gym.make(TEXT, digits=1, split="all", distinct=101)


@pytest.mark.parametrize("name", [TEXT, TOKEN])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "adition"}, "no task is called 'adition'; did you mean addition"),
        ({"digit": 3}, "no (such )?option.* did you mean digits"),
        ({"rewads": 3}, "no (such )?option.* did you mean rewards"),
        ({"rewards": "form=x"}, "the weight of the reward form must be a number, not 'x'"),
        ({"distinct": 0}, "distinct must be an integer from 1, not 0"),
        ({"digits": 0}, "digits must be an integer from 1 to 18, not 0"),
        ({"split": "test"}, "split must be one of"),
        ({"template": "tag"}, "did you mean tags"),
    ],
)
def test_options_that_are_not_allowed_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    for num_envs in (None, 2):
        with pytest.raises(ValueError, match=message):
            make_environment(name, options, num_envs)
    with pytest.raises((ValueError, TypeError), match=message):
        gym.make_vec(name, num_envs=2, **options)


@pytest.mark.parametrize("name", [TEXT, TOKEN])
def test_an_unknown_keyword_is_refused_in_pythons_own_words(name: str) -> None:
    """Callers that try a keyword and go on without it, such as TorchRL, look for them."""
    with pytest.raises(TypeError, match=r"got an unexpected keyword argument 'frameskip'"):
        gym.make(name, frameskip=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (TEXT, {"render_mode": "human"}, "render_mode must be ansi, rgb_array or None, not 'human'"),
        (TEXT, {"num_envs": 0}, "num_envs must be an integer from 1, not 0"),
        (TEXT, {"autoreset_mode": "Never"}, "autoreset_mode must be one of NextStep, SameStep, Disabled"),
        (TEXT, {"max_episode_steps": 0}, "max_episode_steps must be an integer from 1, not 0"),
        (TOKEN, {"max_tokens": 0}, "max_tokens must be an integer from 1, not 0"),
        (TOKEN, {"context": 2.5}, "context must be an integer from 1, not 2.5"),
        (TOKEN, {"observation": "text"}, "observation must be one of tokens, index, not 'text'"),
        (TOKEN, {"writable": "0123x"}, "the character 'x' is not in the vocabulary"),
    ],
)
def test_options_of_vectors_and_of_tokens_are_checked(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gym.make_vec(name, **{"num_envs": 2, **options})


def test_calls_that_are_not_allowed_are_refused() -> None:
    texts, tokens = make("text", 2, autoreset_mode="Disabled"), make("tokens", 2)
    for envs, actions in ((texts, ("", "")), (tokens, np.zeros(2, dtype=int))):
        with pytest.raises(ValueError, match="reset the environments before the first step"):
            envs.step(actions)
        with pytest.raises(ValueError, match="the one option of reset is reset_mask, not cell"):
            envs.reset(options={"cell": 3})
        with pytest.raises(ValueError, match="reset_mask must be"):
            envs.reset(options={"reset_mask": [1, 0]})
        with pytest.raises(ValueError, match="must have one for each of 2, not 3"):
            envs.reset(seed=[1, 2, 3])
        with pytest.raises(ValueError, match="a seed is an integer from 0, not -1"):
            envs.reset(seed=[-1, 2])
        envs.reset(seed=0)
    for wrong in (("", 3), ("",), "ab", 7, None):
        with pytest.raises(ValueError, match="actions must be 2 strings"):
            texts.step(wrong)
    for wrong, message in (([0.0, 1.0], "integers, not float64"), ([0], "of shape"), ([0, 99], "from 0 to 19, not 99")):
        with pytest.raises(ValueError, match=message):
            tokens.step(wrong)
    texts.step(("", ""))
    with pytest.raises(ValueError, match="environment 0 is done: reset it"):
        texts.step(("", ""))
    state = make("text", 3).unwrapped.get_state()
    with pytest.raises(ValueError, match="the state is of 3 environments; these are 2"):
        texts.unwrapped.set_state(state)


def test_a_first_reset_of_some_begins_them_all() -> None:
    envs = make("text", 3, autoreset_mode="Disabled")
    observations, _ = envs.reset(seed=0, options={"reset_mask": np.array([True, False, False])})
    assert all(text.endswith("=\n") for text in observations)
    assert observations[0] == make("text").reset(seed=0)[0]


def test_the_command_line_knows_the_options_of_every_task() -> None:
    for task in TASKS:
        known = parameters(TEXT, {"task": task})
        assert {"task", "rewards", "distinct", "split", "template", "max_episode_steps"} <= set(known)
    assert "numbers" in parameters(TEXT, {"task": "countdown"})
    assert "numbers" not in parameters(TEXT)
    given = {"task": "countdown", "numbers": "4", "rewards": "correct", "split": "held-out"}
    assert environment_options(TEXT, given) == {
        "task": "countdown",
        "numbers": 4,
        "rewards": "correct",
        "split": "held-out",
    }
    with pytest.raises(ValueError, match="no option 'number'; did you mean numbers"):
        environment_options(TEXT, {"task": "countdown", "number": "4"})
    with pytest.raises(ValueError, match="no task is called 'countdwn'; did you mean countdown"):
        environment_options(TOKEN, {"task": "countdwn"})
    with pytest.raises(ValueError, match=r"--env.digits takes a whole number, not 'many'"):
        environment_options(TOKEN, {"digits": "many"})


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("num_envs", [None, 3])
def test_an_environment_can_be_described_and_made_again(world: str, num_envs: int | None) -> None:
    name, options = WORLDS[world]
    env: Any = make_environment(name, options, num_envs)
    found = describe(env)
    assert found == {"id": name, "kwargs": options, "num_envs": num_envs, "wrappers": []}
    again: Any = make_environment(found["id"], found["kwargs"], found["num_envs"])
    assert same(again.reset(seed=0), env.reset(seed=0))
