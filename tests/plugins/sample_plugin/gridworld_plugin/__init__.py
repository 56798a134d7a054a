"""A package of somebody else's: an environment, an agent, a task, a layout and a reward for gridzero."""

from __future__ import annotations


def register() -> None:
    """Register everything; gridzero calls it when it meets a name that it does not know."""
    import gymnasium as gym

    from gridzero import agents
    from gridzero.envs import register_layout, tasks
    from gridzero.envs.tasks import reward

    gym.register("plugin/Corridor-v0", entry_point="gridworld_plugin.corridor:Corridor", max_episode_steps=30)
    agents.register("hill-climbing", "gridworld_plugin.hill_climbing:HillClimbing", "random changes that do no harm")
    tasks.register("reversal", "gridworld_plugin.reversal:Reversal", "a number from back to front")
    reward.register("calm", "gridworld_plugin.calm:calm")
    register_layout("plugin-pond", "S..\n.#.\n..G\n", "a pond in the middle")
