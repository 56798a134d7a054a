"""In a notebook, worlds, maps, models, agents and evaluations show themselves."""

import io
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import gridzero
from gridzero.envs import FiniteMDP, GridWorld, Layout
from gridzero.envs.rendering import colors


def pixels(png):
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def test_worlds_and_maps_are_pictures():
    world = GridWorld("S.#\n..G\n")
    assert repr(world) == "GridWorld('custom', 2x3, 4 actions)"
    shown = pixels(world._repr_png_())
    assert 380 < shown.shape[1] < 450
    for color in (colors.WALL, colors.TARGET):
        assert (shown == color).all(axis=2).any()
    assert (pixels(Layout.load("four-rooms")._repr_png_()) == colors.WALL).all(axis=2).any()


def test_models_are_tables():
    shown = FiniteMDP.from_env(gym.make("FrozenLake-v1"))._repr_html_()
    for name, value in (("states", 16), ("actions", 4), ("terminal states", 5), ("transitions", "by chance")):
        assert f"<td>{name}</td><td>{value}</td>" in shown


@pytest.mark.parametrize(("name", "env", "drawn"), [
    ("value-iteration", "FrozenLake-v1", True), ("q-learning", "gridzero/GridWorld-v0", True),
    ("q-learning", "Blackjack-v1", False),
])  # fmt: skip
def test_agents_are_settings_and_a_picture(name, env, drawn):
    agent = gridzero.agents.make(name, gym.make(env))
    next(agent.learn())
    assert repr(agent).startswith(f"<{name} on ")
    shown = agent._repr_html_()
    assert "<td>gamma</td>" in shown
    assert ("data:image/png;base64," in shown) == drawn
    assert (agent._repr_png_() is not None) == drawn


def test_evaluations_say_what_they_are():
    agent = gridzero.agents.make("value-iteration", gym.make("FrozenLake-v1", is_slippery=False))
    result = gridzero.agents.train(agent, evaluation_episodes=5)
    assert repr(result).startswith("<Evaluation: return 1 [")
    assert "over 5 episodes, 0 short of the optimum 1>" in repr(result)
    assert "<td>optimum</td><td>1</td>" in result._repr_html_()


def test_text_in_tables_is_escaped():
    from gridzero.envs.html import table

    assert "<script>" not in table("<script>", {"<script>": "<script>"})


def test_pygame_comes_with_the_first_picture():
    code = (
        "import sys, gridzero; from gridzero.envs import GridWorld; w = GridWorld('S.G\\n'); repr(w);"
        "w.mdp._repr_html_();"
        "assert 'pygame' not in sys.modules; w._repr_png_(); assert 'pygame' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
