"""Energy is counted by the machine, or said to be missing: never guessed."""

from __future__ import annotations

import importlib.util

import pytest

from studies.benchmark.energy import joules_of, why_not_measured


def test_energy_that_cannot_be_measured_is_refused_before_anything_runs() -> None:
    reason = why_not_measured()
    if reason is None:
        used = [joules_of(lambda: sum(range(20_000_000))) for _ in range(2)]
        assert min(used) > 0, used
        return
    ran: list[int] = []
    with pytest.raises(RuntimeError, match="energy cannot be measured: "):
        joules_of(lambda: ran.append(1))
    assert not ran


def test_a_missing_codecarbon_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert why_not_measured() == "codecarbon is not installed: pip install 'qwave[energy]'"
