"""gridzero: every learner behind one interface, every result held against the exact optimum.

Importing it registers the environments with Gymnasium.
"""

from __future__ import annotations

from gridzero import agents, envs, llm_rl

__all__ = ["__version__", "agents", "envs", "llm_rl"]

__version__ = "0.1.0"
