"""``gridzero play``: a person at the keyboard, held against the optimum like any agent."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated, Any

import gymnasium as gym
import tyro

from gridzero.agents.config_checks import check_at_least, check_between, check_unset
from gridzero.commands.arguments import parse
from gridzero.commands.conversation import converses, spells, verdict
from gridzero.commands.environment_words import EnvironmentWords
from gridzero.commands.watch import viewing
from gridzero.process import until_interrupted

DIRECTIONS: dict[tuple[int, int], str] = {
    (-1, 0): "up w kp8",
    (0, 1): "right d kp6",
    (1, 0): "down s kp2",
    (0, -1): "left a kp4",
    (-1, 1): "u kp9",
    (1, 1): "m kp3",
    (1, -1): "b kp1",
    (-1, -1): "y kp7",
}
"""Keys, by pygame's names, for each move (rows, columns)."""
STAYING = {"": "x kp5", "P": "e", "D": "f"}
"""Keys for actions that stay, by their label: staying, picking up, dropping off."""
PLAIN_KEYS = "1234567890abcdefgijklmnoptuvwxyz"
"""Keys for the actions of environments that are no grid, in order; the others are the window's own."""
ARROWS = {name: name for name in ("left", "right", "up", "down")} | {"forward": "up", "noop": "down"}
"""Arrow keys for actions of these names."""


@dataclass(frozen=True)
class Options:
    """Play an environment yourself: arrows or WASD move, O shows the optimum. Options of the environment are --env.KEY.

    Diagonal moves, where there are any, are on Y U B M and the number pad. X stays. In Taxi, E picks up, F drops off.
    Environments that are no grid need rgb_array and Discrete actions; each key is a step, the window shows the keys.
    In TextGeneration and TokenGeneration you type answers in the terminal; Ctrl-D ends it.

    Example: gridzero play gridzero/GridWorld-v0 --env.layout maze:15x15:3
    """

    env: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="ID")]] = ""
    """Any environment with rgb_array and Discrete actions, or gridzero's TextGeneration-v0 or TokenGeneration-v0."""
    gamma: float = 0.99
    """Discount of the optimum that O shows; scores are not discounted."""
    seed: int | None = None
    """Decides every episode; another one each time if not given."""

    def __post_init__(self) -> None:
        check_between(self, 0, 1, "gamma")
        check_at_least(self, 0, "seed")


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    given, arguments = EnvironmentWords.split(argv)
    options = parse(Options, arguments, "play")
    if not options.env:
        raise ValueError("which environment? `gridzero play ID`; `gridzero list` shows some")
    from gridzero.agents import make
    from gridzero.agents.environments import remake

    env: Any = remake(given.described(options.env))
    if converses(env) or spells(env):
        check_unset(options, "where texts are written", "gamma")
        answer_problems(Spelling(env) if spells(env) else env, options.seed)
        return 0
    from gridzero.envs.rendering.boards import find_board

    window: dict[str, Any] = {"hint": "playing needs a screen", "title": "your turn"}
    if find_board(env) is None:
        action_names(env)
        with viewing(env, None, None, 60, **window) as viewer:
            Game(viewer, env).play(options.seed)
        return 0
    optimum = make("value-iteration", env, gamma=options.gamma)
    with viewing(env, optimum, None, 60, **window) as viewer:
        GridGame(viewer, env, optimum).play(options.seed)
    return 0


def answer_problems(env: Any, seed: int | None) -> None:
    """Let a person answer problems, until there are no more lines or Ctrl-C."""
    from rich.text import Text

    from gridzero.commands import report
    from gridzero.commands.transcripts import blocks, styled
    from gridzero.envs.text.scene import texts_and_pictures

    task, console, begun, right = env.unwrapped.task, report.console(), 0, 0
    if task.explanation:
        console.print(f"{task.explanation}\n", style="dim", highlight=False)
    with until_interrupted(EOFError):
        while True:
            shown, info = env.reset(seed=seed)
            seed, done, completions = None, False, list[str]()
            (text,), (picture,) = texts_and_pictures([shown])
            if picture is None:
                console.print(env.unwrapped.problem.question, markup=False, highlight=False)
            while not done:
                if picture is not None:
                    drawn = task.drawn(env.unwrapped.problem, completions)
                    console.print(blocks(picture, console.width) if console.color_system else Text(drawn))
                answer = _asked()
                bare = task.template.form == "tags" and "<" not in answer
                completion = task.template.completion("", answer) if bare else answer
                before = len(text) + len(completion)
                try:
                    shown, _, terminated, truncated, info = env.step(completion)
                except ValueError as error:
                    console.print(str(error), style="dim", markup=False, highlight=False)
                    continue
                done = terminated or truncated
                completions.append(completion)
                (text,), (picture,) = texts_and_pictures([shown])
                if not done and text[before:].strip("\n"):
                    console.print(text[before:].strip("\n"), markup=False, highlight=False)
            begun, right = begun + 1, right + bool(info["correct"])
            for piece in verdict(info, bool(terminated)):
                console.print(styled(replace(piece, text=piece.text.strip("\n"))), end="", soft_wrap=True)
            told = "" if info["correct"] or task.turns > 1 else f"  a right answer is {env.unwrapped.problem.reference}"
            console.print(f"{told}\n", markup=False, highlight=False)
    print(f"\nyou got {right} of {begun} right")


class Spelling(gym.Wrapper[Any, Any, Any, Any]):
    """Whole completions where an action is a token: text in and text out, as TextGeneration has it."""

    def reset(self, **given: Any) -> tuple[str, dict[str, Any]]:
        """The conversation at its beginning."""
        _, info = self.env.reset(**given)
        return self.env.unwrapped.text, info  # type: ignore[attr-defined]

    def step(self, completion: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """The conversation after a completion; one that is too long is cut off.

        Raises:
            ValueError: for what no action writes.
        """
        world: Any = self.env.unwrapped
        actions = {token: action for action, token in enumerate(world.action_tokens.tolist())}
        ids = [*world.vocabulary.encode(completion), world.vocabulary.end]
        for token in ids:
            if token not in actions:
                raise ValueError(f"{world.vocabulary.tokens[token]} cannot be written here")
        for token in ids:
            _, reward, terminated, truncated, info = self.env.step(actions[token])
            if terminated or truncated:
                break
        return world.text, float(reward), terminated, truncated, info


def _asked() -> str:
    answer = ""
    while not answer.strip():
        answer = input("> ")
    return answer


class Game:
    """Turns keys into steps of any environment that can be drawn and has Discrete actions.

    Args:
        viewer: shows the environment.
        env: the environment that is played.

    Raises:
        ValueError: when its actions are not Discrete, or more than there are keys.
    """

    def __init__(self, viewer: Any, env: Any) -> None:
        self.viewer, self.env = viewer, env
        self.actions: deque[int] = deque()
        self.scores: list[float] = []
        self.keys: dict[int, int] = {}
        self._bind()
        viewer.on_key = self._press
        viewer.episodes.listening = True

    def _bind(self) -> None:
        """Give each action its keys, and show them."""
        from gridzero.envs.rendering.controls import key_code

        names = action_names(self.env)
        first = int(self.env.action_space.start)
        for action, (name, key) in enumerate(zip(names, PLAIN_KEYS, strict=False)):
            self.keys[key_code(key)] = first + action
            self.viewer.controls.own_keys.append((key.upper(), name))
        arrows = {name.lower(): action for action, name in enumerate(names) if name.lower() in ARROWS}
        if not arrows and len(names) in (2, 3):
            arrows = dict(
                zip(("left", "right") if len(names) == 2 else ("left", "down", "right"), range(3), strict=False)
            )
        for name, action in arrows.items():
            self.keys[key_code(ARROWS[name])] = first + action
        self.viewer.controls.own_keys.append(("F12", "save picture"))

    def _press(self, key: int) -> bool:
        if key not in self.keys:
            return False
        self.actions.append(self.keys[key])
        return True

    def play(self, seed: int | None) -> None:
        """Play episodes until the window is closed."""
        while not self.viewer.closed:
            self.env.reset(seed=seed)
            seed = None
            self._begin()
            self.viewer.present()
            self._episode()

    def _begin(self) -> None:
        """Prepare an episode that has just been reset."""

    def _edited(self) -> None:
        """Update the game after an edit of the map."""

    def _result(self, total: float) -> str:
        """A line about an episode that is over."""
        return f"you got {total:.4g}; any move plays on"

    def _episode(self) -> None:
        viewer, done, total = self.viewer, False, 0.0
        while not done:
            viewer.wait(lambda: bool(self.actions) or viewer.controls.restart_asked or viewer.edited)
            if viewer.closed or viewer.restarting():
                return
            if viewer.take_edited():
                self._edited()
                continue
            if not self.actions:
                continue
            _, reward, terminated, truncated, _ = self.env.step(self.actions.popleft())
            total += float(reward)
            done = bool(terminated or truncated)
            if done:
                self.scores.append(total)
                mean = sum(self.scores) / len(self.scores)
                viewer.message = self._result(total)
                viewer.rows |= {"your mean return": f"{mean:.4g} of {len(self.scores)}"}
            viewer.present()
        self.actions.clear()
        viewer.wait(lambda: bool(self.actions) or viewer.controls.restart_asked)
        viewer.restarting()
        viewer.message = ""


class GridGame(Game):
    """A game on a grid, held against the exact optimum, which O shows.

    Args:
        viewer: shows the environment; its agent is the optimum.
        env: the environment that is played.
        optimum: an agent that plans.
    """

    def __init__(self, viewer: Any, env: Any, optimum: Any) -> None:
        self.optimum = optimum
        super().__init__(viewer, env)
        self._show_optimum(False)
        self._edited()

    def _bind(self) -> None:
        from gridzero.envs.rendering.controls import key_code

        board = self.viewer.renderer.board
        for action, (move, label) in enumerate(zip(board.moves, board.labels, strict=True)):
            names = STAYING[label] if move == (0, 0) else DIRECTIONS[move]
            for name in names.split():
                self.keys[key_code(name)] = action
        self.optimum_key = key_code("o")
        own = [("WASD", "move"), ("O", "the optimum"), ("F12", "save picture")]
        if "P" in board.labels:
            own[1:1] = [("E", "pick up"), ("F", "drop off")]
        elif (0, 0) in board.moves:
            own.insert(1, ("X", "stay"))
        self.viewer.controls.own_keys = own

    def _press(self, key: int) -> bool:
        if key == self.optimum_key:
            self._show_optimum(not self.shown)
            return True
        return super()._press(key)

    def _show_optimum(self, shown: bool) -> None:
        self.shown = shown
        layers = self.viewer.layers
        layers.background = "state values" if shown else "none"
        layers.policy = layers.numbers = shown

    def _edited(self) -> None:
        """Solve the edited map and compute the best expected score."""
        from gridzero.envs.mdp import FiniteMDP

        for _ in self.optimum.learn():
            pass
        limit = getattr(self.env.spec, "max_episode_steps", None) or 1000
        self.best = FiniteMDP.from_env(self.env).finite_horizon_values(limit)

    def _begin(self) -> None:
        board = self.viewer.renderer.board
        self.expected = float(self.best[int(board.states()[board.position()])])
        self.viewer.rows |= {"best expected return": f"{self.expected:.4g}"}

    def _result(self, total: float) -> str:
        return f"you got {total:.4g}, the best expect {self.expected:.4g}; move to play on"


def action_names(env: Any) -> list[str]:
    """A name for each action: the environment's own, where it has them, else a number.

    Raises:
        ValueError: when the actions are not Discrete, or more than there are keys.
    """
    name, space = type(env.unwrapped).__name__, env.action_space
    if not isinstance(space, gym.spaces.Discrete):
        raise ValueError(f"{name} cannot be played with keys: its actions are {space}, not Discrete")
    if space.n > len(PLAIN_KEYS):
        raise ValueError(
            f"{name} cannot be played with keys: it has {space.n} actions, there are {len(PLAIN_KEYS)} keys"
        )
    names = {int(space.start) + action: f"action {int(space.start) + action}" for action in range(int(space.n))}
    actions = getattr(env.unwrapped, "actions", None)  # MiniGrid's
    if inspect.isclass(actions) and issubclass(actions, IntEnum):
        names |= {int(each): each.name for each in actions if int(each) in names}
    elif hasattr(env.unwrapped, "get_action_meanings"):  # Atari's
        names |= dict(enumerate(map(str, env.unwrapped.get_action_meanings())))
    return list(names.values())[: int(space.n)]
