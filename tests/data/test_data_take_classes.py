"""Some classes of a data set: which clips, which labels, which digest, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qwave.config import DataError
from qwave.data import EmbeddingSet, load_embeddings, take_classes


@pytest.fixture
def five(gaussians: Callable[..., EmbeddingSet]) -> EmbeddingSet:
    data = gaussians(0, num_classes=5, n_per_class=6)
    order = np.random.default_rng(1).permutation(len(data.y))
    assert data.fold is not None
    assert data.group is not None
    return EmbeddingSet(
        data.x[order],
        data.y[order],
        data.fold[order],
        data.group[order],
        data.class_names,
        tuple(data.names[row] for row in order),
        "0" * 16,
    )


def test_clips_keep_their_order_and_labels_follow_the_names(five: EmbeddingSet) -> None:
    # Asked for in another order than that of the set.
    taken = take_classes(five, ["class 4", "class 1", "class 3"])
    assert taken.class_names == ("class 1", "class 3", "class 4")
    assert five.fold is not None
    assert five.group is not None
    assert taken.fold is not None
    assert taken.group is not None
    rows = [row for row, label in enumerate(five.y) if label in (1, 3, 4)]
    assert len(taken.y) == len(rows) == 18
    for place, row in enumerate(rows):
        assert taken.class_names[taken.y[place]] == five.class_names[five.y[row]]
        assert taken.x[place].tolist() == five.x[row].tolist()
        assert taken.names[place] == five.names[row]
        assert (taken.fold[place], taken.group[place]) == (five.fold[row], five.group[row])
    assert taken.y.dtype == np.int64


def test_all_classes_are_the_set_itself() -> None:
    esc10 = load_embeddings("esc10")
    assert take_classes(esc10, esc10.class_names).digest == esc10.digest


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["class 0", "class 9"], r"no class 'class 9'.*the classes are class 0, class 1, "),
        (["class 0", "class 0"], r"each class must be named once, but got class 0, class 0"),
        (["class 2"], r"at least 2 classes must be left, but got 1"),
        ([], r"at least 2 classes must be left, but got 0"),
    ],
)
def test_what_is_no_choice_of_classes_is_refused(
    five: EmbeddingSet, names: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        take_classes(five, names)
