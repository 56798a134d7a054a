import numpy as np
import pytest

from gridzero.envs.rendering import colors
from gridzero.envs.rendering.text_view import conversation_frame

TURNS = [("prompt", "Make 24 from 4, 4, 6, 6."), ("model", "<answer>4 * 6</answer>"), ("reply", "4 is used once")]


def holds(frame: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((frame == color).all(axis=-1).any())


def test_a_conversation_has_the_color_of_each_speaker() -> None:
    frame = conversation_frame(TURNS, width=500, height=300)
    assert frame.shape == (300, 500, 3)
    assert frame.dtype == np.uint8
    assert all(holds(frame, color) for color in (colors.TARGET, colors.ACCENT, colors.MUTED))
    assert not holds(conversation_frame(TURNS[:1]), colors.ACCENT)


@pytest.mark.parametrize(("correct", "color"), [(True, colors.TARGET), (False, colors.AGENT), (None, colors.MUTED)])
def test_the_verdict_is_colored(correct: bool | None, color: tuple[int, int, int]) -> None:
    assert holds(conversation_frame([], "verdict " * 99, correct), color)


def test_a_long_conversation_shows_its_end() -> None:
    start = [("prompt", f"line {number}") for number in range(50)]
    np.testing.assert_array_equal(conversation_frame(start + TURNS), conversation_frame(start[20:] + TURNS))
    assert (conversation_frame(start + TURNS) != conversation_frame(TURNS + start)).any()


@pytest.mark.parametrize("text", ["", "\x00\x1b[31m\ud800", "\t" * 50, "漢字🙂" * 500, "\n" * 500])
def test_every_text_can_be_drawn(text: str) -> None:
    assert conversation_frame([("model", text)], text, width=40, height=80).shape == (80, 40, 3)
