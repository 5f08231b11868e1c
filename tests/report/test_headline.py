"""The sentence at the top of a report, from points whose answer is known."""

from __future__ import annotations

import random

import pytest

from qwave.report import headline, leading_steps
from qwave.report.headline import accuracy_interval, is_better, percent_text
from qwave.scores import FrontPoint

from .samples import make_point


def points_of(values: list[tuple[float, int]], error: float = 0.01) -> list[FrontPoint]:
    """Points of these (accuracy, bytes), with the front that follows from them."""
    return [
        make_point(
            number,
            accuracy=accuracy,
            size_bytes=size,
            standard_error=error,
            is_front=not any(
                (a >= accuracy and s <= size) and (a, s) != (accuracy, size) for a, s in values
            ),
        )
        for number, (accuracy, size) in enumerate(values)
    ]


def test_no_point() -> None:
    assert headline([], 0.1) == "No trial is complete yet."
    assert leading_steps([]) == []


def test_one_point() -> None:
    assert headline(points_of([(0.8825, 1998)]), 0.1) == (
        "88.2 % in 2 kB; this is the only trial so far."
    )


def test_a_clear_slope_names_its_steps_and_where_they_end() -> None:
    values = [(0.7, 500), (0.8, 1000), (0.9, 2000), (0.89, 5000)]
    assert headline(points_of(values), 0.1) == (
        "90.0 % in 2 kB, 80.0 % in 1 kB, 70.0 % in 500 B; beyond 2 kB nothing here is better."
    )


def test_a_slope_that_has_not_ended_says_so() -> None:
    assert headline(points_of([(0.7, 500), (0.9, 2000)]), 0.1) == (
        "90.0 % in 2 kB, 70.0 % in 500 B; nothing larger than 2 kB was tried."
    )


def test_gains_within_the_noise_are_not_gains() -> None:
    # sqrt(2) * 1.96 * 1 % is 2.8 %.
    values = [(0.9, 1000), (0.95, 2000), (0.97, 10_000)]
    assert headline(points_of(values), 0.1) == (
        "95.0 % in 2 kB, 90.0 % in 1 kB; beyond 2 kB nothing here is better by more than chance "
        "(97.0 % in 10 kB is within the noise)."
    )
    assert headline(points_of(values, error=0.05), 0.1) == (
        "90.0 % in 1 kB; beyond 1 kB nothing here is better by more than chance "
        "(97.0 % in 10 kB is within the noise)."
    )


def test_many_small_gains_that_add_up_are_a_gain() -> None:
    values = [(0.90 + 0.01 * step, 1000 * 2**step) for step in range(9)]
    steps = leading_steps(points_of(values))
    # 98 % beats everything up to 95 %, and of the smaller ones 95 % all up to 92 %.
    assert [step.number for step in steps] == [6, 3, 0]


def test_all_noise_is_no_answer() -> None:
    values = [(0.11, 900), (0.12, 2000), (0.09, 400)]
    assert headline(points_of(values, error=0.02), 0.1) == (
        "No trial is better than the reference accuracy of 10.0 % beyond chance: the highest has "
        "12.0 % in 2 kB."
    )


def test_ties_are_named_once_by_the_smaller_or_the_first() -> None:
    values = [(0.9, 2000), (0.9, 1000), (0.9, 1000), (0.9, 4000)]
    points = points_of(values)
    assert [step.number for step in leading_steps(points)] == [1]
    assert headline(points, 0.1) == "90.0 % in 1 kB; beyond 1 kB nothing here is better."
    assert headline(points[::-1], 0.1) == headline(points, 0.1)


def test_at_most_three_sizes_are_named() -> None:
    values = [(0.1 * step, 1000 * step) for step in range(3, 10)]
    sentence = headline(points_of(values), 0.1)
    assert sentence.count(" in ") == 3
    assert len(leading_steps(points_of(values))) == 7


def test_sizes_that_round_to_the_same_text_are_written_in_bytes() -> None:
    values = [(0.8, 2001), (0.9, 2004)]
    assert headline(points_of(values), 0.1).startswith("90.0 % in 2,004 B, 80.0 % in 2,001 B; ")


def test_a_trial_without_spread_is_not_surer_than_the_one_it_is_compared_with() -> None:
    perfect, good = make_point(0, accuracy=1.0, standard_error=0.0), make_point(1, accuracy=0.98)
    assert not is_better(perfect, good)
    assert is_better(perfect, make_point(1, accuracy=0.97))


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0 %"),
        (0.0004, "0.04 %"),
        (0.9375, "93.8 %"),
        (0.95, "95.0 %"),
        (0.99949, "99.9 %"),
        (0.9996, "99.96 %"),
        (1.0, "100.0 %"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert percent_text(share) == text


def test_intervals_stay_among_accuracies() -> None:
    assert accuracy_interval(make_point(0, accuracy=0.5)) == pytest.approx((0.4804, 0.5196))
    assert accuracy_interval(make_point(0, accuracy=0.995)) == pytest.approx((0.9754, 1.0))
    assert accuracy_interval(make_point(0, accuracy=0.0)) == pytest.approx((0.0, 0.0196))


def test_nothing_larger_beats_the_first_and_something_larger_beats_the_others() -> None:
    for seed in range(60):
        random_ = random.Random(seed)
        values = [
            (random_.randrange(40, 101) / 100, random_.choice((500, 1000, 1500, 4000, 9000)))
            for _ in range(random_.randrange(1, 25))
        ]
        points = points_of(values, error=random_.choice((0.0, 0.005, 0.02, 0.1)))
        steps = leading_steps(points)
        sizes = [step.size_bytes for step in steps]
        assert sizes == sorted(set(sizes), reverse=True), seed
        assert all(step.is_front for step in steps), seed
        first, *others = steps
        assert not any(p.size_bytes > first.size_bytes and is_better(p, first) for p in points), (
            seed
        )
        for step in others:
            larger = [p for p in points if p.size_bytes > step.size_bytes]
            assert any(is_better(p, step) for p in larger), (seed, step)
        # Every smaller member of the front is beaten by something larger.
        for p in points:
            if p.is_front and p.size_bytes < first.size_bytes:
                assert any(is_better(q, p) for q in points if q.size_bytes > p.size_bytes), seed
        shuffled = random_.sample(points, len(points))
        assert headline(shuffled, 0.1) == headline(points, 0.1), seed
