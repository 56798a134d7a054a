"""Each example runs, with a small budget, in a process of its own; skipped where its library is missing."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"
NEEDS = {
    "maskable_ppo": "sb3_contrib",
    "torchrl_ppo": "torchrl",
    "skrl_ppo": "skrl",
    "tianshou_dqn": "tianshou",
    "rllib_ppo": "ray",
    "record_video": "moviepy",
    "trl_grpo": "trl",
    "verifiers_environment": "verifiers",
}
STEPS = {
    "sb3_dqn": 1000,
    "imitation_margins": 256,
    "record_video": 30,
    "play": 5,
    "skrl_ppo": 1024,
    "tianshou_dqn": 500,
    "rllib_ppo": 1000,
    "trl_grpo": 1280,
    "verl_reward": 20,
    "verifiers_environment": 3,
}
LAKE = "0.953"
"""The optimal success rate on the 4×4 lake with slip 0.1 within 200 steps, of exact backward induction."""


def run(name: str, folder: Path, *arguments: str) -> str:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    environment = {**os.environ, "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_it_runs(name: str, tmp_path: Path) -> None:
    steps = STEPS.get(name, 2048)
    more = ["--seeds", "2", "--draws", "1"] if name == "imitation_margins" else []
    said = run(name, tmp_path, "--steps", str(steps), *more)
    if name == "record_video":
        assert list((tmp_path / "videos").glob("*.mp4"))
    elif name == "play":
        assert "closed after 5 steps" in said
    elif name == "imitation_margins":
        assert all(head in said for head in ("cosface", "arcface", "sphereface"))
    elif name == "trl_grpo":
        before, after = (int(share) for share in re.findall(r"(\d+)% of held-out additions right", said))
        assert after >= before + 20
    elif name == "verl_reward":
        assert "custom_reward_function.name=compute_score" in said
        assert len(list(tmp_path.glob("t*"))) == 2
    elif name == "verifiers_environment":
        assert said.count("User:") == 3
    elif name == "sb3_dqn":
        assert re.search(r"largest error of an action value \d", said)
    else:
        assert f"best policy's is {'0.780' if name == 'maskable_ppo' else LAKE}" in said


def test_the_single_file_learns(tmp_path: Path) -> None:
    """A PPO that learns nothing stays below 0.2; the exact return of what it found is far above."""
    said = run("cleanrl_style_ppo", tmp_path, "--steps", "40960")
    found = re.search(r"exact return ([\d.]+)", said)
    assert found is not None
    assert float(found[1]) > 0.8


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_its_opening_says_what_it_is(path: Path) -> None:
    opening = path.read_text().split('"""')[1]
    assert "Leaves out:" in opening
    assert "Needs:" in opening
    assert f"python scripts/examples/{path.name}" in opening
