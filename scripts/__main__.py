"""The command line, ``gridzero COMMAND …``; each command is a module of gridzero.commands, imported when given."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from gridzero.process import insistent_interrupts

COMMANDS = {
    "train": "train an agent in an environment",
    "sweep": "train with every combination of some settings and several seeds",
    "watch": "see a run at work, on the screen or in a GIF, MP4 or PNG",
    "play": "play an environment yourself",
    "evaluate": "returns, intervals and gaps to the exact optimum of runs",
    "plot": "learning curves of runs, as PNG, SVG or PDF",
    "recipe": "several stages as one resumable run: r1-zero, r1, rlhf, ladder",
    "runs": "list runs, compare their settings, delete some",
    "export": "what a run learnt, for SB3, ONNX runtimes or the Hugging Face hub",
    "figure": "figures of books and papers made anew, beside the published numbers",
    "list": "environments, layouts, agents, tasks and their options",
    "benchmark": "the speed of this machine, ours and the peers' side by side",
    "demo": "value iteration, Monte Carlo and Q-learning solve grid worlds",
}

USAGE = """\
usage: gridzero COMMAND [OPTIONS]

From grid world to R1-Zero: every learner behind one interface, every result held against the exact optimum.

commands:
{commands}

`gridzero COMMAND --help` says what a command takes; `gridzero --version` which version this is. Every command takes
--import MODULE, as often as wanted: the module is imported first, so that what it registers is known by name.

example:
  gridzero train q-learning --env FrozenLake-v1 --run lake
  gridzero watch lake
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 2 when the input was wrong, 130 on Ctrl-C, 1 for what should not have happened: each with one line on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            with insistent_interrupts():
                return _dispatch(arguments)
    except SystemExit as stop:  # --help
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("GRIDZERO_TRACEBACK"):
            raise
        return _report(error)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(USAGE.format(commands="\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())), end="")
        return 0
    if arguments[0] == "--version":
        from gridzero import __version__

        print(f"gridzero {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        from gridzero.envs.suggestions import closest

        raise ValueError(f"there is no command {command!r}; {closest(command, COMMANDS)}")
    from gridzero.commands.arguments import take_repeated
    from gridzero.envs import plugins

    modules, rest = take_repeated("--import", rest)
    plugins.typed([*rest, *(f"{module}:" for module in modules)])
    for name in modules:
        plugins.import_module(name)
    module = importlib.import_module(f"gridzero.commands.{command}")
    status = module.main(rest)
    sys.stdout.flush()
    return int(status)


def _report(error: Exception) -> int:
    from gymnasium.error import Error as GymnasiumError

    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror}", 2)
    if isinstance(error, ValueError | GymnasiumError):
        return _complain(text, 2)
    if isinstance(error, ImportError):
        return _complain(f"{text} (is everything installed?)", 2)
    return _complain(f"{type(error).__name__}: {text}; GRIDZERO_TRACEBACK=1 shows where", 1)


def _complain(text: str, status: int) -> int:
    print(f"gridzero: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
