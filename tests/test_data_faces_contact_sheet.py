"""Contact sheets: what is drawn where, and which frames are shown."""

from __future__ import annotations

import numpy as np

from data.faces.alignment import TEMPLATE_POINTS, transform_points
from data.faces.contact_sheet import CAPTION_HEIGHT, STATUS_COLOURS, contact_sheet, sheet_column, sheet_frames
from tests.face_factory import template_landmarks

MATRIX = np.array([[0.5, 0, -10], [0, 0.5, 5]])
INVERSE = np.array([[2.0, 0, 20], [0, 2, -10]])
GREEN = (0, 220, 0)


def _column(status: str = "detected") -> np.ndarray:
    image = np.full((360, 640, 3), 100, dtype=np.uint8)
    return sheet_column(image, transform_points(INVERSE, template_landmarks()), MATRIX, 7, status)


def test_sheet_column_draws_landmarks_before_and_after() -> None:
    column = _column()
    assert column.shape == (2 * 224 + CAPTION_HEIGHT, 224, 3)
    x, y = (transform_points(INVERSE, template_landmarks())[0] * 224 / 640).round().astype(int)
    assert tuple(column[49 + y, x]) == GREEN  # the frame is 126 px high, 49 px of black above it
    x, y = template_landmarks()[0].round().astype(int)
    assert tuple(column[224 + y, x]) == GREEN
    assert column[:49].max() == 0


def test_sheet_column_marks_the_template() -> None:
    after = _column()[224:448]
    for x, y in TEMPLATE_POINTS.astype(int):
        assert tuple(after[y, x]) == (40, 40, 255)


def test_sheet_column_shows_trouble_by_colour_and_caption() -> None:
    for status, colour in STATUS_COLOURS.items():
        x, y = template_landmarks()[0].round().astype(int)
        assert tuple(_column(status)[224 + y, x]) == colour
    captions = [_column(status)[448:] for status in ("detected", "held")]
    assert min(caption.max() for caption in captions) > 200
    assert not np.array_equal(*captions)


def test_sheet_column_of_a_tiny_picture_has_the_same_size() -> None:
    tiny = sheet_column(np.zeros((2, 300, 3), np.uint8), template_landmarks(), MATRIX, 0, "held")
    assert tiny.shape == _column().shape


def test_contact_sheet_puts_columns_side_by_side() -> None:
    one, two = _column(), _column("held")
    sheet = contact_sheet([one, two])
    assert sheet.shape == (one.shape[0], 450, 3)
    assert np.array_equal(sheet[:, :224], one)
    assert np.array_equal(sheet[:, 226:], two)
    assert np.array_equal(contact_sheet([one]), one)


def test_sheet_frames_are_spread_and_show_trouble() -> None:
    assert sheet_frames(["tracked"] * 100) == [0, 14, 28, 42, 57, 71, 85, 99]
    assert sheet_frames(["tracked"] * 3) == [0, 1, 2]
    assert sheet_frames(["detected"]) == [0]
    status = ["tracked"] * 100
    status[33] = status[34] = "held"
    assert {33, 34} <= set(sheet_frames(status))
    assert len(sheet_frames(status)) == 8
    assert sheet_frames(["held"] * 50)[0] == 0
