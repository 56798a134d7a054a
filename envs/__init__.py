"""The worlds: finite MDPs as Gymnasium environments. They know nothing of agents."""

from gridzero.envs.mdp import FiniteMDP

__all__ = ["FiniteMDP"]
