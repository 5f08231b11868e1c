"""Clips of one length, and windows over long ones, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from qwave.audio import fit_length
from qwave.audio.stream import stream_windows
from qwave.config import AudioError


@pytest.mark.parametrize("num_samples", [1, 2, 6, 7, 8, 14, 15, 100])
def test_a_clip_is_looped_from_its_start_or_cut_at_its_end(num_samples: int) -> None:
    waveform = np.arange(7, dtype=np.float32)
    fitted = fit_length(waveform, num_samples)
    assert fitted.dtype == np.float32
    assert fitted.tolist() == [waveform[index % 7] for index in range(num_samples)]
    fitted[:] = -1
    assert waveform.tolist() == list(range(7))


@pytest.mark.parametrize(("length", "num_samples"), [(0, 10), (5, 0), (5, -1)])
def test_nothing_cannot_be_looped(length: int, num_samples: int) -> None:
    message = f"{length} samples cannot be looped or cut to {num_samples}"
    with pytest.raises(AudioError, match=message):
        fit_length(np.zeros(length, dtype=np.float32), num_samples)


@pytest.mark.parametrize(
    ("length", "window", "hop", "expected"),
    [
        (10, 1.0, 1.0, [(0, 10)]),
        (7, 1.0, 1.0, [(0, 7)]),  # the only one
        (1, 1.0, 1.0, [(0, 1)]),
        (14, 1.0, 1.0, [(0, 10)]),  # 4 samples of 10 are less than half
        (15, 1.0, 1.0, [(0, 10), (10, 15)]),
        (30, 1.0, 1.0, [(0, 10), (10, 20), (20, 30)]),
        (20, 1.0, 0.5, [(0, 10), (5, 15), (10, 20)]),
        (22, 1.0, 0.5, [(0, 10), (5, 15), (10, 20)]),  # 2 new samples of 5
        (23, 1.0, 0.5, [(0, 10), (5, 15), (10, 20), (15, 23)]),
        (35, 1.0, 2.0, [(0, 10), (20, 30)]),  # a gap
        (29, 1.0, 2.0, [(0, 10)]),
        (40, 1.0, 3.0, [(0, 10), (30, 40)]),  # whole: kept, though half a hop is 15
        (12, 1.0, 0.1, [(0, 10), (1, 11), (2, 12)]),
    ],
)
def test_windows_worked_out_by_hand(
    length: int, window: float, hop: float, expected: list[tuple[int, int]]
) -> None:
    waveform = np.arange(length, dtype=np.float32)
    found = list(stream_windows([waveform], 10, window, hop))
    starts, windows = [w.start_seconds for w in found], [w.waveform for w in found]
    ends = [(round(s * 10), round(s * 10) + len(w)) for s, w in zip(starts, windows, strict=True)]
    assert ends == expected
    for (start, end), piece in zip(expected, windows, strict=True):
        assert piece.tolist() == list(range(start, end))


@pytest.mark.parametrize("seed", range(20))
def test_windows_leave_less_than_half_a_hop_unheard(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(50):
        n, rate = int(rng.integers(1, 3000)), int(rng.integers(1, 200))
        window = rng.uniform(1, 20)
        hop = rng.uniform(1, window)
        sound = np.arange(n, dtype=np.float32)
        found = list(stream_windows([sound], rate, window, hop))
        starts, windows = [w.start_seconds for w in found], [w.waveform for w in found]
        case = f"{seed=} {n=} {rate=} {window=} {hop=}"
        heard = {int(sample) for piece in windows for sample in piece}
        assert len(heard) == windows[-1][-1] + 1, case  # no gap
        assert len(windows) == 1 or n - len(heard) < hop * rate / 2 + 1, case
        assert all(len(piece) == round(window * rate) for piece in windows[:-1]), case
        if len(windows) > 1:
            new = len(windows[-1]) + windows[-1][0] - windows[-2][-1] - 1
            assert new >= hop * rate / 2 - 1, case
        assert np.allclose(starts, np.arange(len(windows)) * hop, atol=0.5 / rate), case
