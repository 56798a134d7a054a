"""gridzero: every learner behind one interface, every result held against the exact optimum.

Importing it registers the environments with Gymnasium.
"""

from __future__ import annotations

import sys

try:
    from gridzero import agents, envs, llm_rl
except KeyboardInterrupt:
    if sys.argv[0] != "-m" and not sys.argv[0].endswith(("/gridzero", "\\gridzero", "\\gridzero.exe")):
        raise
    print("gridzero: interrupted", file=sys.stderr)  # the command, before its own handling is imported
    sys.exit(130)

__all__ = ["__version__", "agents", "envs", "llm_rl"]

__version__ = "0.1.0"
