"""What a progress display shows in a line of a given width."""

from __future__ import annotations

from dataclasses import replace

import pytest

from transfer.utils.progress_layout import (
    FULL_BAR,
    MIN_BAR,
    Snapshot,
    bar_texts,
    clock,
    heading,
    shortened,
)

TRAINING = Snapshot(
    task="pretext[seed=0]: training",
    unit="images",
    done=12_000,
    total=48_000,
    rate=1204.3,
    text="epoch 120/1000, loss 0.001234, accuracy 100.0 %, chance 1 %, waiting 2 %",
    stage="stage 3 of 12",
    run_left=750,
)


@pytest.mark.parametrize(
    ("width", "shown", "missing"),
    [
        (140, ["25 %", "1,204 images/s", "0:29 left", "loss", "accuracy", "chance"], []),
        (100, ["25 %", "1,204 images/s", "0:29 left", "loss", "accuracy"], ["chance"]),
        (80, ["25 %", "1,204 images/s", "0:29 left"], ["accuracy"]),
        (60, ["25 %", "1,204 images/s", "0:29 left"], ["loss"]),
        (40, ["25 %", "0:29 left"], ["images/s"]),
        (20, ["25 %"], ["left"]),
    ],
)
def test_bar_speed_and_time_left_come_before_figures(
    width: int, shown: list[str], missing: list[str]
) -> None:
    bar, text = bar_texts(TRAINING, width)
    assert MIN_BAR <= bar <= FULL_BAR
    assert bar + 2 + len(text) <= width
    assert [part for part in shown if part not in text] == []
    assert [part for part in missing if part in text] == []


@pytest.mark.parametrize("width", [1, 5, 9, 14])
def test_tiny_line_has_no_bar_and_does_not_overflow(width: int) -> None:
    assert bar_texts(TRAINING, width) == (0, " 25 %"[:width])
    assert len(heading(TRAINING, width)) <= width


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (80, "stage 3 of 12  pretext[seed=0]: training  run ~12:30 left"),
        (57, "stage 3 of 12  pretext[seed=0]: training  run ~12:30 left"),
        (40, "stage 3 of 12  pretext[seed=0]: training"),
        (10, "pret..ning"),
    ],
)
def test_heading_names_stage_member_and_time_of_the_run(width: int, text: str) -> None:
    assert heading(TRAINING, width) == text


def test_heading_without_a_known_time_or_a_run_has_neither() -> None:
    assert heading(replace(TRAINING, run_left=None), 80).endswith(": training")
    alone = Snapshot("reading /photos", "files", 1, 2)
    assert heading(alone, 80) == "reading /photos"


@pytest.mark.parametrize("width", range(20, 81, 10))
def test_long_name_keeps_its_member(width: int) -> None:
    named = replace(TRAINING, task="a" * 200 + "[seed=0]: training")
    text = heading(named, width)
    assert len(text) <= width
    assert text.startswith("stage 3 of 12  aa") or width == 20
    assert "=0]: training" in text or width < 60


def test_wide_characters_are_measured_and_control_characters_do_not_reach_the_terminal() -> None:
    from rich.cells import cell_len

    wide = replace(TRAINING, task="写真" * 30 + "\x1b[2J\n")
    text = heading(wide, 60, cell_len)
    assert cell_len(text) <= 60
    assert text.isprintable()


def test_unknown_total_shows_the_count() -> None:
    unknown = Snapshot("reading", "files", 1234, None, rate=10)
    assert unknown.line() == "  reading 1,234 files, 10 files/s"
    bar, text = bar_texts(unknown, 80)
    assert bar == FULL_BAR
    assert text == "1,234 files  10 files/s"


@pytest.mark.parametrize(
    ("rate", "text"), [(0, ""), (0.034, "0.03 a/s"), (2.34, "2.3 a/s"), (12345.6, "12,346 a/s")]
)
def test_speed_has_digits_that_matter(rate: float, text: str) -> None:
    assert Snapshot("x", "a", 0, 1, rate).speed == text


@pytest.mark.parametrize(
    ("done", "total", "text"), [(0, 0, "0 %"), (5, 4, "100 %"), (199, 200, "99 %"), (4, 4, "100 %")]
)
def test_share_stays_within_bounds(done: int, total: int, text: str) -> None:
    assert Snapshot("x", "a", done, total).share == text


def test_time_left_counts_down_while_nothing_is_reported() -> None:
    assert "0:19 left" in bar_texts(TRAINING, 80, age=10)[1]
    assert "0:00 left" in bar_texts(TRAINING, 80, age=1000)[1]
    assert "run ~12:20 left" in heading(TRAINING, 80, age=10)
    assert "run ~0:00 left" in heading(TRAINING, 80, age=1000)


def test_line_of_a_log_has_everything() -> None:
    assert TRAINING.line() == (
        "  stage 3 of 12, pretext[seed=0]: training 25 %, 1,204 images/s, 0:29 left, "
        f"run ~12:30 left; {TRAINING.text}"
    )


def test_clock_and_shortened() -> None:
    assert [clock(seconds) for seconds in (0, 65, 3845.9)] == ["0:00", "1:05", "1:04:05"]
    assert shortened("abcdefgh", 6) == "ab..gh"
    assert shortened("abcdef", 6) == "abcdef"
