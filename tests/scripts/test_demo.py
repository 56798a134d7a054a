import re

import pytest
from PIL import Image

from gridzero.__main__ import main
from gridzero.commands import demo


def test_the_scenes_are_the_three_kinds_of_agent():
    kinds = {scene.agent.partition("-")[0] for scene in demo.SCENES}
    assert kinds == {"value", "mc", "q"}


def test_scenes_are_solved_recorded_and_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "SCENES", demo.SCENES[:1])
    out = tmp_path / "pictures" / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"value-iteration +zhao-5x5 .* 197\.6\d* +0\.0000 +0\.0000", printed)
    assert main(["demo", "--out", str(out)]) == 0
    pictures = sorted(path.name for path in out.iterdir())
    assert pictures == ["value-iteration-zhao-5x5-2.gif", "value-iteration-zhao-5x5.gif"]
    with Image.open(out / pictures[0]) as image:
        assert image.n_frames > 10


@pytest.mark.slow
@pytest.mark.parametrize("scene", demo.SCENES, ids=lambda scene: f"{scene.agent}-{scene.world}")
def test_every_scene_ends_at_the_optimum(tmp_path, scene):
    row = demo.show(scene, tmp_path, 8, 0)
    assert float(row[6]) < 1e-3


def test_bad_options(capsys):
    assert main(["demo", "--fps", "0"]) == 2
    assert "fps" in capsys.readouterr().err
