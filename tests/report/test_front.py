from __future__ import annotations

import numpy as np
import pytest

from qwave.report import front_png, size_text
from qwave.report.front import accuracy_limits
from qwave.scores import FrontPoint, attainment_staircase

from .samples import make_point, make_points, open_png


def draw(points: list[FrontPoint], reference_accuracy: float = 0.9, title: str = "t") -> bytes:
    return front_png(
        points, reference_accuracy=reference_accuracy, size_budget_bytes=1_000_000, title=title
    )


@pytest.mark.parametrize("n_points", [0, 1, 12])
def test_front_is_a_png_of_the_promised_size(n_points: int) -> None:
    png = draw(make_points(n_points))
    assert open_png(png).size == (1600, 1000)
    assert draw(make_points(n_points)) == png


def test_sixty_members_at_close_sizes_are_drawn() -> None:
    points = [
        make_point(i, accuracy=0.85 + 0.0016 * i, size_bytes=int(2000 * 1.13**i))
        for i in range(60)
    ]
    assert open_png(draw(points)).size == (1600, 1000)


@pytest.mark.slow
def test_changed_data_change_the_front() -> None:
    points = make_points(4)
    base = draw(points)
    assert draw([make_point(0, accuracy=0.86), *points[1:]]) != base
    assert draw([make_point(0, num_experts=4), *points[1:]]) != base
    assert draw([make_point(0, standard_error=0.02), *points[1:]]) != base
    assert draw(points, title="other") != base
    assert draw([make_point(0, label="other"), *points[1:]]) != base, "the list names it"


def test_order_of_the_points_does_not_matter() -> None:
    points = make_points(6)
    assert draw(points[::-1]) == draw(points)


def test_far_trials_and_far_reference_are_drawn() -> None:
    points = [*make_points(4), make_point(9, accuracy=0.1, is_front=False)]
    assert open_png(draw(points, reference_accuracy=0.1)).size == (1600, 1000)


def test_front_with_no_member_and_hostile_labels_is_drawn() -> None:
    assert open_png(draw([make_point(0, is_front=False)])).size == (1600, 1000)
    assert open_png(draw([make_point(0, label="$\\bad{", standard_error=0.0)])).size == (
        1600,
        1000,
    )


def test_accuracy_limits_frame_the_front_not_the_outliers() -> None:
    points = [make_point(0, accuracy=0.90), make_point(1, accuracy=0.94)]
    outlier = make_point(2, accuracy=0.1, is_front=False)
    lower, upper = accuracy_limits([*points, outlier], 0.92)
    assert (lower, upper) == accuracy_limits(points, 0.92)
    assert 0.8 < lower < 0.89
    assert 0.95 < upper < 1.0


def test_staircase_is_the_best_accuracy_at_or_below_each_size() -> None:
    rng = np.random.default_rng(0)
    for round_number in range(50):
        points = [
            make_point(i, accuracy=a / 20, size_bytes=int(s))
            for i, (a, s) in enumerate(rng.integers(1, 12, size=(8, 2)))
        ]
        sizes, accuracies = attainment_staircase(points)
        assert sizes == sorted(set(sizes)), f"{round_number=}"
        assert accuracies == sorted(set(accuracies)), f"{round_number=}"
        for size in range(1, 12):
            reachable = [p.accuracy for p in points if p.size_bytes <= size]
            steps = [a for s, a in zip(sizes, accuracies, strict=True) if s <= size]
            assert max(steps, default=0) == max(reachable, default=0), f"{round_number=}, {size=}"


def test_staircase_uses_the_front_only() -> None:
    assert attainment_staircase([make_point(0, is_front=False)]) == ([], [])


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (2051, "2.05 kB"),
        (999_600, "1 MB"),
        (4e9, "4 GB"),
    ],
)
def test_size_text(size_bytes: float, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": 1.2}, r"`accuracy` must lie in 0..1, but got 1.2"),
        ({"accuracy": float("nan")}, r"`accuracy` must lie in 0..1, but got nan"),
        ({"standard_error": -0.1}, r"`standard_error` must be finite and >= 0, but got -0.1"),
        ({"standard_error": float("inf")}, r"`standard_error` must be finite .* got inf"),
        ({"size_bytes": 0}, r"`size_bytes` must be at least 1, but got 0"),
        ({"num_experts": 0}, r"`num_experts` must be at least 1, but got 0"),
    ],
)
def test_impossible_points_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_point(0, **changes)


def test_impossible_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`reference_accuracy` must lie in 0..1, but got 93.0"):
        draw([], reference_accuracy=93.0)
    with pytest.raises(ValueError, match=r"`size_budget_bytes` must be at least 1, but got 0"):
        front_png([], reference_accuracy=0.9, size_budget_bytes=0, title="t")
