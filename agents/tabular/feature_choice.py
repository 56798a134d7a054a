"""Features of an environment's observations, as the settings of an agent choose them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from gridzero.agents.config_checks import check_above_zero, check_at_least
from gridzero.agents.spaces import Numbering
from gridzero.agents.tabular.features import Aggregation, FeatureMap, Features, Fourier, Polynomial, TileCoding
from gridzero.agents.tabular.inputs import BoxInputs, DiscreteInputs, grid_shape
from gridzero.envs.suggestions import closest

LARGEST_TABLE = 10_000_000
"""Entries of a table of the features of all states; where there are more, they are computed as they are needed."""

STEP_SIZES = {"tabular": "0.1", "aggregation": "0.1", "polynomial": "0.01", "fourier": "0.01", "tiles": "0.3"}
"""The kinds of features, and a step size that suits each."""


@dataclass(frozen=True)
class FeatureConfig:
    """Settings of the features."""

    features: Literal["auto", "tabular", "aggregation", "polynomial", "fourier", "tiles"] = "auto"
    """Feature map. tabular: one feature for each state; aggregation: one for each box of states;
    polynomial: products of the inputs; fourier: cosines; tiles: tile coding. Inputs are the components of the
    observation, of a grid's cell its row and column. auto: tiles for a Box, else tabular."""
    tilings: int = 8
    """Tilings of tile coding."""
    tiles: int = 8
    """Tiles of a tiling along each input."""
    order: int = 3
    """Highest degree of the polynomial, highest frequency of the Fourier basis along each input."""
    groups: int = 10
    """Boxes of the aggregation along each input."""
    clip: float | None = None
    """Inputs that the observation space leaves unbounded are clipped to -clip … clip; without it they are refused."""

    def __post_init__(self) -> None:
        kinds = ("auto", *STEP_SIZES)
        if self.features not in kinds:
            raise ValueError(f"there are no features {self.features!r}; {closest(self.features, kinds)}")
        check_at_least(self, 1, "tilings", "tiles", "order", "groups")
        check_above_zero(self, "clip")

    def unused(self) -> dict[str, str]:
        """Fields that do nothing with these settings, each with what makes it so."""
        users = {
            "tilings": ("tiles", "auto"),
            "tiles": ("tiles", "auto"),
            "order": ("polynomial", "fourier"),
            "groups": ("aggregation",),
        }
        return {name: f"features {self.features}" for name, kinds in users.items() if self.features not in kinds}


class ObservationFeatures:
    """Feature vectors of an environment's observations.

    Args:
        env: an environment or a vector.
        space: of one environment's observations.
        config: the settings.

    Raises:
        ValueError: for observations that are neither a Box nor discrete, or settings that do not suit them.

    Attributes:
        kind: which of the features they are, never "auto".
        map: the feature map.
        numbering: of the states where they can be counted, else None.
    """

    def __init__(self, env: Any, space: gym.Space[Any], config: FeatureConfig) -> None:
        self.numbering: Numbering | None = None
        self._table: Features | None = None
        self._clips = False
        self.map: FeatureMap
        self.kind: str = config.features
        if config.features == "auto":
            self.kind = "tiles" if isinstance(space, gym.spaces.Box) else "tabular"
        if isinstance(space, gym.spaces.Box):
            if self.kind == "tabular":
                raise ValueError("tabular features need observations that can be counted; a Box takes tiles or fourier")
            box = BoxInputs(space, config.clip)
            self._inputs: Callable[[Any], NDArray[np.float64]] = box
            self._clips = box.unbounded
            self.map = _feature_map(self.kind, config, box.dimensions)
            return
        self.numbering = Numbering(space, "observation space")
        states = self.numbering.n
        if self.kind == "tabular":
            self.map = Aggregation(1, states)
            self._inputs = lambda numbers: (numbers[:, None] + 0.5) / states
        else:
            discrete = DiscreteInputs(self.numbering, grid_shape(env, states))
            self._inputs = discrete
            self.map = _feature_map(self.kind, config, discrete.dimensions)
        if states * self.map.active <= LARGEST_TABLE:
            self._table = self.map(self._inputs(np.arange(states)))

    def unused(self) -> dict[str, str]:
        """Settings that do nothing with these features of such observations, each with what makes it so."""
        unused = FeatureConfig(cast(Any, self.kind)).unused()
        return unused if self._clips else unused | {"clip": "observations that have bounds"}

    def __call__(self, observations: Any) -> Features:
        """Feature vectors of a batch of observations (N, …)."""
        if self.numbering is None:
            return self.map(self._inputs(observations))
        numbers = self.numbering.numbers(observations)
        if self._table is None:
            return self.map(self._inputs(numbers))
        return Features(self._table.indices[numbers], self._table.values[numbers])

    def numbers(self, observations: Any) -> NDArray[np.int64]:
        """The numbers (N,) of a batch of discrete observations."""
        return self._counted().numbers(observations)

    def of_all_states(self) -> Features:
        """Feature vectors of all states, S of them.

        Raises:
            ValueError: when the observations cannot be counted.
        """
        counted = self._counted()
        return self._table if self._table is not None else self.map(self._inputs(np.arange(counted.n)))

    def _counted(self) -> Numbering:
        if self.numbering is None:
            raise ValueError("the observations cannot be counted, so there is no table of them")
        return self.numbering


def _feature_map(kind: str, config: FeatureConfig, dimensions: int) -> FeatureMap:
    if kind == "aggregation":
        return Aggregation(dimensions, config.groups)
    if kind == "polynomial":
        return Polynomial(dimensions, config.order)
    if kind == "fourier":
        return Fourier(dimensions, config.order)
    return TileCoding(dimensions, config.tilings, config.tiles)
