"""Many grid worlds at once: one compiled step over shared tables of moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from gridzero.envs.checks import autoreset, check_none_done, environments_to_reset, positive_integer, step_limit
from gridzero.envs.grid import step_kernels as kernels
from gridzero.envs.grid.layouts.layout import Layout, Tile
from gridzero.envs.grid.maps import MapTables, layout_from, layout_state
from gridzero.envs.grid.model import GridModel
from gridzero.envs.grid.world import GridWorld
from gridzero.envs.mdp import FiniteMDP
from gridzero.envs.random_streams import draws_made, stream_keys


class GridWorldVector(VectorEnv[Any, Any, Any]):
    """N grid worlds: environment i does, bit for bit, what a :class:`GridWorld` on the random stream (seed, i) does.

    Whatever N is: the stream of environment i depends on the seed and on i alone. ``reset(seed=s)`` gives environment
    i the stream (s, i); ``reset(seed=[s0, s1, …])`` gives it (s_i, 0), which a single ``GridWorld`` has after
    ``reset(seed=s_i)``. In ``NEXT_STEP`` mode, the fastest, one hash a step is all the randomness.

    Args:
        num_envs: N.
        max_episode_steps: after how many steps an episode is truncated; ``None``: never.
        autoreset_mode: an ``AutoresetMode`` or its value: ``"NextStep"``, ``"SameStep"`` or ``"Disabled"``.
        render_mode: ``"rgb_array"`` or ``"ansi"``; ``render`` gives a tuple of N.
        layout: as for :class:`GridWorld`.
        regenerate: a new map at each reset, for each environment its own.
        **options: the others of :class:`GridWorld`.

    Attributes:
        autoreset_mode: the mode.
        layout: the map; with ``regenerate``, what the maps are like.
        mdp: the exact model; not with ``regenerate``, where each environment has its own.

    Raises:
        ValueError: for an option that is not allowed; it says what is.

    Example:
        >>> envs = GridWorldVector(num_envs=3, layout="zhao-2x2", start=0)
        >>> envs.reset(seed=0)[0]
        array([0, 0, 0])
        >>> observations, rewards, terminated, truncated, info = envs.step(np.array([0, 2, 4]))
        >>> observations, rewards
        (array([0, 2, 0]), array([-1.,  0.,  0.]))
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        self._views: list[GridWorld] = []  # first, because it is asked for when an error ends this
        self.num_envs = positive_integer("num_envs", num_envs)
        self._limit = step_limit(max_episode_steps)
        self.autoreset_mode = autoreset(autoreset_mode)
        self.metadata = {**GridWorld.metadata, "render_modes": ["rgb_array", "ansi"]}
        self.metadata["autoreset_mode"] = self.autoreset_mode
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be rgb_array, ansi or None, not {render_mode!r}")
        self.render_mode = render_mode
        self._options = options
        single = GridWorld(**options, render_mode=render_mode)
        self.rules, self.observer, self.generator = single.rules, single.observer, single.generator
        self.single_observation_space, self.single_action_space = single.observation_space, single.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._plain = isinstance(self.single_observation_space, gym.spaces.Discrete)
        self._next_step = self.autoreset_mode is AutoresetMode.NEXT_STEP
        self._same_step = self.autoreset_mode is AutoresetMode.SAME_STEP
        self._disabled = self.autoreset_mode is AutoresetMode.DISABLED
        self._edited = False
        self._seeded = False
        self._shape = (self.num_envs,)
        self._lanes = np.zeros(self.num_envs, dtype=kernels.LANE)
        self._install(single.model)

    def _install(self, model: GridModel) -> None:
        """Use this map, or, with ``regenerate``, maps like this one."""
        self._many = self.generator is not None
        tables = MapTables(model, self.num_envs if self._many else 1, own=self._many)
        self.observer.show(tables.maps, model.layout.legend)
        self._tables = tables
        self.model = model
        self.layout = model.layout
        _, num_states, num_actions, num_choices = tables.moves.shape
        self._worlds = (
            tables.moves,
            (
                np.uint64(num_states * num_actions * num_choices if self._many else 0),
                np.uint64(num_actions * num_choices),
                np.uint64(num_choices),
                np.uint64(self.rules.slip_threshold),
                self._limit,
            ),
            tables.starts,
            tables.start_counts,
            model.table.palette,
            model.offsets,
            model.members,
        )

    def _begin(self, which: NDArray[np.int64]) -> None:
        """New episodes, on new maps with ``regenerate``."""
        if self.generator is not None:
            self._tables.renew(self.generator, self._lanes, which)
        kernels.reset(self._lanes, which, self._tables.starts, self._tables.start_counts, self._many)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: s begins the streams (s, i), a sequence the streams (s_i, 0); where there is none, streams go on.
            options: ``{"reset_mask": mask}``, (N,) bool: only there.

        Raises:
            ValueError: for seeds or a mask that are not N, or another option.
        """
        which = environments_to_reset(options, self.num_envs)
        if seed is None:
            if not self._seeded:
                self._begin_streams(stream_keys(int(self.np_random.integers(1 << 63)), self.num_envs))
        elif isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            self._begin_streams(stream_keys(int(seed), self.num_envs), which)
        else:
            self._begin_own_streams(seed, which)
        self._begin(which)
        return self._observe(), self._info(self._success())

    def _begin_streams(self, keys: NDArray[np.uint64], which: Any = slice(None)) -> None:
        self._lanes["key"][which] = keys[which]
        self._lanes["position"][which] = 0
        self._seeded = True

    def _begin_own_streams(self, seeds: Sequence[int | None], which: NDArray[np.int64]) -> None:
        if len(seeds) != self.num_envs:
            raise ValueError(f"a sequence of seeds must have one for each of {self.num_envs}, not {len(seeds)}")
        if not self._seeded:
            self._begin_streams(stream_keys(int(self.np_random.integers(1 << 63)), self.num_envs))
        for i in which.tolist():
            own = seeds[i]
            if own is not None:
                self._lanes["key"][i] = stream_keys(int(own), 1)[0]
                self._lanes["position"][i] = 0

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act in all environments; those that are done begin anew, by the autoreset mode.

        Args:
            actions: (N,) integers.

        Returns:
            Observations, rewards (N,) float64, terminated and truncated (N,) bool, and an info with ``is_success``
            (N,) bool. All arrays are new. In ``SAME_STEP`` mode, where an episode ended, the info has ``final_obs`` and
            ``final_info``.

        Raises:
            ValueError: for actions that are not N integers from 0 to A-1, or (``DISABLED``) when an environment is
                done and was not reset.
        """
        taken = np.asarray(actions)
        if taken.shape != self._shape or taken.dtype.kind not in "iu":
            raise ValueError(f"actions must be {self._shape} integers, not {taken.dtype} of shape {taken.shape}")
        taken = np.ascontiguousarray(taken, dtype=np.int64)
        if self._next_step and self.generator is not None:
            self._tables.renew(self.generator, self._lanes, np.flatnonzero(self._lanes["done"]))
        elif self._disabled:
            check_none_done(self._lanes["done"])
        cells = np.empty(self.num_envs, dtype=np.int64)
        rewards = np.empty(self.num_envs)
        flags = np.empty((4, self.num_envs), dtype=np.bool_)
        if not kernels.step(self._lanes, taken, self._worlds, self._next_step, cells, rewards, flags):
            wrong = taken[(taken < 0) | (taken >= self.rules.actions)][0]
            raise ValueError(f"an action is an integer from 0 to {self.rules.actions - 1}, not {wrong}")
        terminated, truncated, success = flags[0], flags[1], flags[2]
        info: dict[str, Any] = {"is_success": success, "_is_success": flags[3]}
        observations = cells if self._plain else self.observer.batch(cells)
        if self._same_step:
            done = self._lanes["done"].copy()
            if done.any():
                observations, info = self._reset_done(done, observations, success)
        return observations, rewards, terminated, truncated, info

    def _reset_done(
        self, done: NDArray[np.bool_], observations: Any, success: NDArray[np.bool_]
    ) -> tuple[Any, dict[str, Any]]:
        which = np.flatnonzero(done)
        final = np.full(self.num_envs, None, dtype=object)
        for i in which.tolist():
            final[i] = int(observations[i]) if self._plain else observations[i]
        self._begin(which)
        info = {
            "final_obs": final,
            "_final_obs": done,
            "final_info": {"is_success": success & done, "_is_success": done.copy()},
            "_final_info": done.copy(),
            **self._info(np.where(done, self._success(), success)),
        }
        return self._observe(), info

    def _observe(self) -> Any:
        return self.observer.batch(self.cells)

    def _info(self, success: NDArray[np.bool_]) -> dict[str, Any]:
        return {"is_success": success, "_is_success": np.ones(self.num_envs, dtype=np.bool_)}

    def _success(self) -> NDArray[np.bool_]:
        """(N,) whether each environment is on a target."""
        targets = np.array([tile.target for tile in self.layout.legend], dtype=np.bool_)
        return np.asarray(targets[self._tables.tiles(self._lanes["cell"])])

    @property
    def cells(self) -> NDArray[np.int64]:
        """(N,) the states the environments are in."""
        return self._lanes["cell"].astype(np.int64)

    @property
    def mdp(self) -> FiniteMDP:
        """The exact model of the map that all environments share."""
        return self._shared().mdp

    @property
    def P(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:  # noqa: N802 - Gymnasium's name
        """Gymnasium's table: ``P[s][a]`` lists (probability, next state, reward, terminated)."""
        return self._shared().P

    def _shared(self) -> GridModel:
        if self._many:
            raise AttributeError("with regenerate each environment has its own map, so there is no one model")
        return self.model

    @property
    def worlds(self) -> tuple[NDArray[np.void], tuple[Any, ...]] | None:
        """The arrays from which a learner's compiled kernel steps these worlds itself.

        It calls the parts of :mod:`~gridzero.envs.grid.step_kernels`.

        The lanes, and what :func:`~gridzero.envs.grid.step_kernels.step` calls worlds, the words flat. None where there
        is more to a step: observations that are not states' numbers, maps generated anew, a mode other than NEXT_STEP.
        """
        if not self._plain or not self._next_step or self._many:
            return None
        moves, *others = self._worlds
        return self._lanes, (moves.reshape(-1), *others)

    def action_masks(self) -> NDArray[np.bool_]:
        """(N, A) False for moves that would bump into the boundary or a wall; all True where every one would."""
        return self._tables.masks(self._lanes["cell"])

    def get_state(self) -> dict[str, Any]:
        """State to continue from: cells, elapsed steps, pending resets, streams, and the maps if they change."""
        state: dict[str, Any] = {name: self._lanes[name].copy() for name in kernels.LANE.names or ()}
        if self._many:
            state["maps"] = self._tables.maps.copy()
        elif self._edited:
            state["layout"] = layout_state(self.layout)
        return state

    def state_of(self, i: int) -> dict[str, Any]:
        """State from which a single :class:`GridWorld` continues as environment ``i`` would."""
        lane = self._lanes[i]
        draws = draws_made(int(lane["position"]))
        state: dict[str, Any] = {"cell": int(lane["cell"]), "key": int(lane["key"]), "draws": draws}
        if self._many or self._edited:
            state["layout"] = layout_state(self._layout_of(i))
        return state

    def _layout_of(self, i: int) -> Layout:
        return dataclasses.replace(self.layout, cells=self._tables.maps[i if self._many else 0])

    def set_state(self, state: Mapping[str, Any] | NDArray[np.integer[Any]] | Sequence[int]) -> Any:
        """Continue from what :meth:`get_state` gave, or begin episodes on cells (N,) of one's choice.

        Returns:
            The observations there.

        Raises:
            ValueError: when the numbers of environments or the maps disagree, or nobody can be on a cell.
        """
        if not isinstance(state, Mapping):
            self._lanes["cell"] = self._checked(np.asarray(state))
            self._lanes["elapsed"] = 0
            self._lanes["done"] = False
            return self._observe()
        if np.shape(state["cell"]) != (self.num_envs,):
            raise ValueError(f"the state is of {np.size(state['cell'])} environments; these are {self.num_envs}")
        if "layout" in state:
            self._install(GridModel(layout_from(state["layout"]), self.rules))
            self._edited = True
        if self._many:
            self._tables.restore(np.asarray(state["maps"]))
        cells = self._checked(np.asarray(state["cell"]))
        for name in kernels.LANE.names or ():
            self._lanes[name] = state[name]
        self._lanes["cell"] = cells
        self._seeded = True
        return self._observe()

    def _checked(self, cells: NDArray[Any]) -> NDArray[np.int64]:
        size = self.layout.cells.size
        if cells.shape != (self.num_envs,) or cells.dtype.kind not in "iu":
            raise ValueError(f"cells must be ({self.num_envs},) integers, not {cells.dtype} of shape {cells.shape}")
        if cells.min() < 0 or cells.max() >= size:
            raise ValueError(f"states go from 0 to {size - 1}, not {cells.min()} to {cells.max()}")
        blocked = np.array([tile.blocks for tile in self.layout.legend])[self._tables.tiles(cells)]
        if blocked.any():
            i = int(blocked.argmax())
            raise ValueError(f"nobody can be on state {int(cells[i])} in environment {i}: it is blocked")
        return cells.astype(np.int64)

    def edit(self, row: int, column: int, tile: Tile | str) -> None:
        """Replace a tile of the map that all share; see :meth:`GridWorld.edit`.

        Raises:
            ValueError: with ``regenerate``, or when the result is not a map that an episode can start on.
        """
        if self._many:
            raise ValueError("with regenerate each environment has its own map; there is none to edit")
        self._install(GridModel(self.layout.with_tile(row, column, tile), self.rules))
        self._edited = True

    def render(self) -> tuple[Any, ...] | None:
        """N pictures (H, W, 3) or texts, by ``render_mode``."""
        if self.render_mode is None:
            gym.logger.warn("render() does nothing without a render_mode, such as make_vec(..., render_mode='ansi')")
            return None
        if not self._views:
            options = {**self._options, "render_mode": self.render_mode, "regenerate": False}
            self._views = [GridWorld(**options) for _ in range(self.num_envs)]
        for i, view in enumerate(self._views):
            layout = self._layout_of(i)
            if view.layout.legend != layout.legend or not np.array_equal(view.layout.cells, layout.cells):
                view._install(GridModel(layout, self.rules, like=self.model))
            view.cell = int(self._lanes["cell"][i])
        return tuple(view.render() for view in self._views)

    def close_extras(self, **kwargs: Any) -> None:
        """Release the resources of rendering."""
        for view in self._views:
            view.close()
        self._views = []

    def __getstate__(self) -> dict[str, Any]:
        """State without the pictures, which are made again when needed."""
        return {**self.__dict__, "_views": []}
