"""Drawing with pygame; the only folder that imports it.

``GridRenderer`` turns a grid and what is known about it into frames, off screen or in a window. ``Viewer`` shows a
learner at work in any environment: the training loop feeds it updates, or it paces an agent that is being watched.
"""

import os

# pygame reads it on import
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

from gridzero.envs.rendering.renderer import GridRenderer, Picture
from gridzero.envs.rendering.screen import NoDisplayError
from gridzero.envs.rendering.viewer import Viewer

__all__ = ["GridRenderer", "NoDisplayError", "Picture", "Viewer"]
