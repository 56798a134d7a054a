"""A task of gridzero under verl: the data it trains on, and the reward function that it loads from this file.

    python scripts/examples/verl_reward.py --steps 1000

writes train.parquet and test.parquet (JSON lines where the package datasets is missing) and prints what to add to
verl's command:

    data.train_files=train.parquet data.val_files=test.parquet
    reward.custom_reward_function.path=scripts/examples/verl_reward.py
    reward.custom_reward_function.name=compute_score

Leaves out: verl's own settings; prompts are messages, so the model needs a chat template.
Needs: pip install gridzero verl datasets
"""

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

from gridzero.envs.tasks import make_task
from gridzero.llm_rl.integrations.task_exports import verl_reward, verl_rows

OPTIONS = {"numbers": 4, "template": "r1-zero"}

compute_score = verl_reward(make_task("countdown", **OPTIONS))


def main() -> None:
    """Write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="problems to train on")
    count = parser.parse_args().steps
    files = []
    for name, split, size in (("train", "train", count), ("test", "held-out", max(1, count // 10))):
        files.append(write(verl_rows(make_task("countdown", split=split, **OPTIONS), size), name))
    print(f"data.train_files={files[0]} data.val_files={files[1]}")
    print(f"reward.custom_reward_function.path={__file__} reward.custom_reward_function.name=compute_score")


def write(rows: list[dict[str, Any]], name: str) -> Path:
    """One file."""
    if importlib.util.find_spec("datasets") is None:
        path = Path(f"{name}.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    from datasets import Dataset

    path = Path(f"{name}.parquet")
    Dataset.from_list(rows).to_parquet(str(path))
    return path


if __name__ == "__main__":
    main()
