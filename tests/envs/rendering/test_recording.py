import tracemalloc

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from gridzero.envs.rendering.recording import Recorder, grid_palette


def frames(count):
    for i in range(count):
        frame = np.full((40, 60, 3), 246, dtype=np.uint8)
        frame[5:20, 2 * i : 2 * i + 8] = (205, 32, 116)
        yield frame


def test_gif_has_its_frames_size_and_colours(tmp_path):
    recorder = Recorder(tmp_path / "a.gif", 10, grid_palette())
    for frame in frames(7):
        recorder.add(frame)
    recorder.close()
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 7
        assert image.size == (60, 40)
        assert image.info["duration"] == 100
        assert image.info["loop"] == 0
        image.seek(3)
        assert np.abs(np.asarray(image.convert("RGB")).astype(int)[10, 9] - (205, 32, 116)).max() < 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def test_still_frames_prolong_a_gif(tmp_path):
    recorder = Recorder(tmp_path / "a.gif", 10, grid_palette())
    first, second = frames(2)
    recorder.add(first, repeat=5)
    recorder.add(second)
    recorder.close()
    with Image.open(tmp_path / "a.gif") as image:
        durations = []
        for i in range(image.n_frames):
            image.seek(i)
            durations.append(image.info["duration"])
    assert sum(durations) == 600


@pytest.mark.parametrize("palette", [None, grid_palette()[::8]], ids=["own", "shared"])
def test_a_gif_shows_what_was_drawn(tmp_path, palette):
    colours = grid_palette()[::8]
    rng = np.random.default_rng(0)
    drawn = [colours[rng.integers(len(colours), size=(4, 6))].repeat(8, 0).repeat(8, 1)]
    for _ in range(8):
        frame = drawn[-1].copy()
        top, left = rng.integers(0, 24, size=2)
        frame[top : top + 7, left : left + 9] = colours[rng.integers(len(colours))]
        drawn.append(frame)
    recorder = Recorder(tmp_path / "a.gif", 10, palette)
    for frame in drawn:
        recorder.add(frame)
    recorder.close()
    with Image.open(tmp_path / "a.gif") as image:
        shown = []
        for i in range(image.n_frames):
            image.seek(i)
            shown += [np.asarray(image.convert("RGB"))] * (image.info["duration"] // 100)
    assert len(shown) == len(drawn)
    for one, other in zip(shown, drawn, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_long_gif_takes_no_more_memory_than_a_short_one(tmp_path):
    recorder = Recorder(tmp_path / "a.gif", 10, grid_palette())
    frame = np.zeros((200, 300, 3), dtype=np.uint8)
    recorder.add(frame)
    tracemalloc.start()
    for i in range(300):
        frame = frame.copy()
        frame[i % 200, i] = 255 - frame[i % 200, i]
        recorder.add(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    recorder.close()
    assert peak < 20 * frame.nbytes


def test_mp4_has_its_frames_and_size(tmp_path):
    recorder = Recorder(tmp_path / "a.mp4", fps=10)
    for frame in frames(12):
        recorder.add(frame)
    recorder.close()
    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4"))
    assert count == 12
    assert seconds == pytest.approx(1.2, abs=0.11)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    assert next(reader)["size"] == (60, 40)
    reader.close()


def test_what_cannot_be_recorded(tmp_path):
    (tmp_path / "there.gif").write_bytes(b"kept")
    for path, message in (
        (tmp_path / "a.avi", "ends in .gif, .mp4 or .png"),
        (tmp_path / "there.gif", "exists"),
        (tmp_path / "no" / "a.gif", "no folder"),
    ):
        with pytest.raises(ValueError, match=message):
            Recorder(path, 8)
    with pytest.raises(ValueError, match="1 to 100"):
        Recorder(tmp_path / "a.gif", 0)
    assert (tmp_path / "there.gif").read_bytes() == b"kept"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    recorder = Recorder(tmp_path / "a.gif", 8)
    recorder.add(next(frames(1)))
    (tmp_path / "a.gif").write_bytes(b"kept")
    with pytest.raises(ValueError, match="exists"):
        recorder.close()
    assert (tmp_path / "a.gif").read_bytes() == b"kept"
