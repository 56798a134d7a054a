"""The grid world as a Gymnasium environment."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import colorize
from numpy.typing import NDArray

from gridzero.envs.grid import move_kernels as kernels
from gridzero.envs.grid.layouts.generators import KINDS
from gridzero.envs.grid.layouts.layout import Layout, Tile
from gridzero.envs.grid.layouts.validation import moves_to_target
from gridzero.envs.grid.maps import check_cell, generated, generator_of, layout_from, layout_state
from gridzero.envs.grid.model import GridModel, Rules
from gridzero.envs.grid.observations import make_observer
from gridzero.envs.mdp import FiniteMDP
from gridzero.envs.random_streams import fill_draws, mix, stream_key

RENDER_MODES = ("human", "rgb_array", "ansi")
STEP_LIMIT = 200
"""Steps after which ``gymnasium.make`` truncates an episode, as registered."""
_BLOCK = 128
_LOW, _TERMINAL, _SUCCESS, _SPREAD = (
    int(bit) for bit in (kernels.LOW, kernels.TERMINAL, kernels.SUCCESS, kernels.SPREAD)
)
_Move = tuple[int, float, bool, bool, tuple[int, ...]]
"""Next cell, reward, terminated, success; and landing words to draw from, if there are several."""
_Choice = tuple[int, _Move, list[_Move]]
"""The threshold below which the action slips, the intended move, the alternatives."""


class GridWorld(gym.Env[Any, Any]):
    """An agent moves from cell to cell of a map; a finite MDP that is known exactly.

    State and cell are one: row · W + column. The actions are up, right, down, left; stay with 5 of them; up-right,
    down-right, down-left, up-left with 8 (which may pass between two walls). The rewards are those of Zhao's book: for
    a step, for entering a target or a forbidden cell, for bumping into the boundary or a wall. Tiles can do more (end
    the episode, send the agent elsewhere, blow it off); :class:`~gridzero.envs.Tile` has the list. An option
    that is not given is the map's own (:attr:`Layout.settings`), else the default in :class:`Rules`.

    Args:
        layout: a name, a generator (``"maze:15x15:SEED"``), a file, a map's text, or a :class:`Layout`.
        reward_step: see :class:`Rules`, as for the eight below.
        reward_target: paid on entering a target.
        reward_forbidden: paid on entering a forbidden cell.
        reward_boundary: paid for bumping.
        forbidden_enterable: whether forbidden cells can be entered.
        target_terminal: whether targets end the episode.
        actions: 4, 5 or 8.
        slip: the probability that a move is replaced.
        slip_to: ``"perpendicular"``, ``"any"``, ``"backward"`` or ``"stay"``.
        start: the map's start cells, ``"random"``, a state, or (row, column).
        observation: ``"index"``, ``"coordinates"``, ``"one_hot"``, ``"window"`` (the surroundings), ``"image"`` (the
            whole map as pixels), ``"text"``; :mod:`gridzero.envs.grid.observations` has shapes and channels.
        window_size: the side of the window, odd.
        regenerate: a new map at each reset; for generated layouts.
        render_mode: ``"human"``, ``"rgb_array"``, ``"ansi"``, or with ``gym.make`` the last two with ``_list``.

    Attributes:
        layout: the present map.
        mdp: the exact model of the present map; a new object after an edit or on a new map.
        cell: the state the agent is in.

    Raises:
        ValueError: for an option that is not allowed; it says what is.

    Example:
        >>> env = GridWorld("zhao-2x2", start=0)
        >>> env.reset(seed=0)
        (0, {'is_success': False})
        >>> env.step(2)
        (2, 0.0, False, False, {'is_success': False})
        >>> env.step(1)
        (3, 1.0, False, False, {'is_success': True})
        >>> float(env.mdp.finite_horizon_values(2, gamma=0.9)[0])
        0.9
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 8}  # type: ignore[misc]  # Gymnasium's is per instance

    def __init__(
        self,
        layout: str | Path | Layout = "zhao-5x5",
        *,
        reward_step: float | None = None,
        reward_target: float | None = None,
        reward_forbidden: float | None = None,
        reward_boundary: float | None = None,
        forbidden_enterable: bool | None = None,
        target_terminal: bool | None = None,
        actions: int | None = None,
        slip: float | None = None,
        slip_to: str | None = None,
        start: str | int | tuple[int, int] | None = None,
        observation: str = "index",
        window_size: int = 5,
        regenerate: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.layout = Layout.load(layout)
        self.rules = Rules.resolve(
            self.layout,
            {
                "reward_step": reward_step,
                "reward_target": reward_target,
                "reward_forbidden": reward_forbidden,
                "reward_boundary": reward_boundary,
                "forbidden_enterable": forbidden_enterable,
                "target_terminal": target_terminal,
                "actions": actions,
                "slip": slip,
                "slip_to": slip_to,
                "start": start,
            },
        )
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ValueError(f"render_mode must be one of {', '.join(RENDER_MODES)} or None, not {render_mode!r}")
        self.render_mode = render_mode
        self.generator = generator_of(self.layout, self.rules) if regenerate else None
        self.observer = make_observer(observation, self.layout, window_size)
        self.observation_space = self.observer.space
        self.action_space = gym.spaces.Discrete(self.rules.actions)
        self._plain = observation == "index"
        self._edited = False
        self._key: int | None = None
        self._used = 0  # draws of the stream before this block of them
        self._next = 0  # draws of the block that are used
        self._draws: list[int] = []
        self._last_action: int | None = None
        self._renderer: Any = None
        self._install(GridModel(self.layout, self.rules))
        self.cell = self._starts[0] & _LOW

    @staticmethod
    def time_limit(options: Mapping[str, Any]) -> int | None:
        """The limit of steps for a generated map whose target is out of reach within the registered limit.

        Four times the shortest way; None where the registered limit of 200 steps suffices, or for other maps.

        Args:
            options: keywords of the constructor.
        """
        layout = options.get("layout")
        if not isinstance(layout, str) or layout.partition(":")[0] not in KINDS:
            return None
        return _time_limit(layout)

    def _install(self, model: GridModel) -> None:
        self.observer.show(model.layout.cells[None], model.layout.legend)
        self.model = model
        self.layout = model.layout
        self._starts: list[int] = model.starts.tolist()
        self._choices: list[dict[int, _Choice] | None] = [None] * len(model.moves)

    def _look_up(self, cell: int) -> dict[int, _Choice]:
        """The choices in a cell; remembered, so that a step is one look-up."""
        choices: dict[int, _Choice] = {}
        for action in range(self.rules.actions):
            intended, *others = (self._move(word) for _, word in self.model.outcomes(cell, action))
            choices[action] = (self.rules.slip_threshold if others else 0, intended, others)
        self._choices[cell] = choices
        return choices

    def _move(self, word: int) -> _Move:
        landings = tuple(self.model.landings(word))
        first = landings[0]
        several = landings if len(landings) > 1 else ()
        return (first & _LOW, self.model.reward(word), bool(first & _TERMINAL), bool(first & _SUCCESS), several)

    def _refill(self) -> None:
        if self._key is None:
            self._key = stream_key(int(self.np_random.integers(1 << 63)))
        self._used += self._next
        self._next = 0
        block = np.empty(_BLOCK, dtype=np.uint64)
        fill_draws(np.uint64(self._key), np.uint64(self._used), block)
        self._draws = block.tolist()

    def _begin_stream(self, key: int, used: int) -> None:
        self._key, self._used, self._next, self._draws = key, used, 0, []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: begins the random stream (seed, 0); without one the stream goes on.
            options: there are none.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._begin_stream(stream_key(seed), 0)
        if self._next >= len(self._draws):
            self._refill()
        bits = self._draws[self._next]
        self._next += 1
        if self.generator is not None:
            self._install(GridModel(generated(self.generator, bits), self.rules, like=self.model))
            self._edited = False
        word = self._starts[(bits >> 32) * len(self._starts) >> 32]
        self.cell = word & _LOW
        self._last_action = None
        if self.render_mode == "human":
            self.render()
        return self.observer.one(self.cell), {"is_success": bool(word & _SUCCESS)}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take an action, 0 … A-1.

        Raises:
            ValueError: for another action.
        """
        choices = self._choices[self.cell] or self._look_up(self.cell)
        try:
            threshold, move, alternatives = choices[action]
        except (KeyError, TypeError):
            return self.step(self._checked(action))
        position = self._next
        self._next = position + 1
        if threshold:
            if position >= len(self._draws):
                self._next = position
                self._refill()
                position, self._next = 0, 1
            bits = self._draws[position]
            if bits >> 32 < threshold:
                move = alternatives[(bits & _LOW) * len(alternatives) >> 32]
        self.cell, reward, terminated, success, several = move
        if several:
            terminated, success = self._spread(several, position)
        if self.render_mode is not None:
            self._last_action = int(action)
            if self.render_mode == "human":
                self.render()
        observation = self.cell if self._plain else self.observer.one(self.cell)
        return observation, reward, terminated, False, {"is_success": success}

    def _spread(self, landings: tuple[int, ...], position: int) -> tuple[bool, bool]:
        if position >= len(self._draws):
            self._next = position
            self._refill()
            position, self._next = 0, 1
        word = landings[(mix(~self._draws[position] & (1 << 64) - 1) >> 32) * len(landings) >> 32]
        self.cell = word & _LOW
        return bool(word & _TERMINAL), bool(word & _SUCCESS)

    def _checked(self, action: Any) -> int:
        try:
            index = operator.index(action)
        except TypeError:
            index = -1
        if not 0 <= index < self.rules.actions:
            raise ValueError(f"an action is an integer from 0 to {self.rules.actions - 1}, not {action!r}")
        return index

    @property
    def mdp(self) -> FiniteMDP:
        """The exact model of the present map."""
        return self.model.mdp

    @property
    def P(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:  # noqa: N802 - Gymnasium's name
        """Gymnasium's table: ``P[s][a]`` lists (probability, next state, reward, terminated)."""
        return self.model.P

    def action_masks(self) -> NDArray[np.bool_]:
        """(A,) False for moves that would bump into the boundary or a wall; all True where every one would."""
        return np.array(self.model.masks[self.cell])

    def get_state(self) -> dict[str, Any]:
        """State to continue from: the cell, the random stream and, where it can change, the map."""
        if self._key is None:
            self._refill()
        state: dict[str, Any] = {"cell": self.cell, "key": self._key, "draws": self._used + self._next}
        if self._edited:
            state["layout"] = layout_state(self.layout)
        elif self.generator is not None:
            state["layout"] = self.layout.name
        return state

    def set_state(self, state: dict[str, Any] | int) -> Any:
        """Continue from what :meth:`get_state` gave, or put the agent on a cell.

        Returns:
            The observation there.

        Raises:
            ValueError: for a state that nobody can be in.
        """
        if isinstance(state, dict):
            if "layout" in state:
                self._install(GridModel(layout_from(state["layout"]), self.rules))
                self._edited = not isinstance(state["layout"], str)
            self._begin_stream(int(state["key"]), int(state["draws"]))
            state = state["cell"]
        self.cell = check_cell(self.model, state)
        self._last_action = None
        return self.observer.one(self.cell)

    def edit(self, row: int, column: int, tile: Tile | str) -> None:
        """Replace a tile; :attr:`mdp` and :attr:`layout` become new objects. An agent walled in ends its episode.

        Args:
            row: from 0.
            column: from 0.
            tile: a tile, or the symbol of one.

        Raises:
            ValueError: when the result is not a map, or no episode can start on it; nothing has changed then.
        """
        self._install(GridModel(self.layout.with_tile(row, column, tile), self.rules))
        self._edited = True

    def __repr__(self) -> str:
        layout, actions = self.layout, self.rules.actions
        return f"GridWorld({layout.name!r}, {layout.height}x{layout.width}, {actions} actions)"

    def _repr_png_(self) -> bytes | None:
        """The map and the agent as a picture, in notebooks."""
        from gridzero.envs.rendering.notebook import picture_of

        return picture_of(self)

    def render(self) -> Any:
        """A picture (H, W, 3) uint8, a text, or a window's next frame, by ``render_mode``."""
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render_mode, such as gym.make(..., render_mode='ansi')")
            return None
        if self.render_mode == "ansi":
            return self._as_text()
        if self._renderer is None:
            from gridzero.envs.rendering import GridRenderer

            self._renderer = GridRenderer(self, human=self.render_mode == "human")
        frame = self._renderer.frame()
        return None if self.render_mode == "human" else frame

    def _as_text(self) -> str:
        lines = [f"  ({self.rules.action_names[self._last_action]})"] if self._last_action is not None else []
        legend = self.layout.legend
        for row, tiles in enumerate(self.layout.cells.tolist()):
            line = [
                _colored(legend[tile], row * self.layout.width + column == self.cell)
                for column, tile in enumerate(tiles)
            ]
            lines.append("".join(line))
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __getstate__(self) -> dict[str, Any]:
        """State without the renderer, which is made again when needed."""
        return {**self.__dict__, "_renderer": None}


def _colored(tile: Tile, agent: bool) -> str:
    if agent:
        return colorize(tile.symbol, "red", highlight=True)
    if tile.target:
        return colorize(tile.symbol, "green", bold=True)
    if tile.forbidden or tile.ends or tile.sends_to:
        return colorize(tile.symbol, "yellow")
    return colorize(tile.symbol, "gray") if tile.blocks else tile.symbol


@functools.lru_cache(maxsize=16)
def _time_limit(layout: str) -> int | None:
    """Four times the shortest way on a generated map where that is longer than the registered limit, else None."""
    drawn = Layout.load(layout)
    if drawn.cells.size <= STEP_LIMIT:
        return None
    fewest = moves_to_target(drawn.cells, drawn.legend)
    return 4 * int(fewest) if STEP_LIMIT < fewest < np.inf else None
