"""A task of gridzero as a taskset of verifiers, for its evaluations and for prime-rl.

A module that exports a taskset is found by its name; with this folder on PYTHONPATH:

    python scripts/examples/verifiers_environment.py --steps 3

shows the first problems, and verifiers takes it as --env.taskset.id verifiers_environment.

Leaves out: the model and its server, which verifiers' commands name; where the server strips thoughts from replies,
take the template "plain".
Needs: pip install gridzero 'verifiers>=0.4'
"""

import argparse

import verifiers.v1 as vf

from gridzero.envs.tasks import make_task
from gridzero.llm_rl.integrations.task_exports import verifiers_taskset

__all__ = ["Countdown"]

Countdown = verifiers_taskset(make_task("countdown", numbers=4, template="r1-zero"), size=1000)


def main() -> None:
    """Show problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="problems to show")
    taskset = Countdown(vf.TasksetConfig(id="verifiers_environment"))
    for task in taskset.take(parser.parse_args().steps):
        print(task.data.idx, task.data.prompt.splitlines()[-2])


if __name__ == "__main__":
    main()
