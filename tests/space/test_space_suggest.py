"""From draws to configurations: canonical, within their domains, nothing inert, nothing twice."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial

from qwave.config import (
    SCHEMES,
    ChoiceDomain,
    FloatDomain,
    IntDomain,
    MixDomain,
    SweepConfig,
    TrialConfig,
    scheme_name,
)
from qwave.data import EmbeddingSet, load_embeddings
from qwave.packing import packed_size_bytes
from qwave.space import baseline_params, extreme_configs, load_sweep, mixes, suggest
from qwave.sweep.ask import make_sampler

ROOT = Path(__file__).resolve().parents[2]
# Studies of known configurations have seeds of their own, and loaders of their own.
SWEEPS = [
    path
    for path in sorted((ROOT / "sweeps").rglob("*.y*ml"))
    if "\nseeds:" not in path.read_text(encoding="utf-8")
]

# Everything that can be searched, in every kind of domain.
WIDE = """
name: wide
sampler: {seed: 3}
search:
  model.num_experts: {int: [1, 4]}
  model.schemes: {mix: [fp32, qesc, 1, bitnet, 4]}
  model.top_k: {int: [1, 3]}
  model.hidden: {choice: {linear: [], small: [9], deep: [30, 20, 10]}}
  model.head_scheme: {choice: {own: null, eight: 8, whole: esc}}
  model.dropout: {float: [0.0, 0.5]}
  model.input_dropout: {float: [0.0, 0.6]}
  model.load_balance_weight: {float: [1e-4, 1e-1], log: true}
  model.router.hidden: {int: [0, 40]}
  model.router.scheme: {choice: [1, ternary, 16]}
  model.router.dropout: {float: [0.05, 0.5]}
  model.curiosity.alpha: {float: [0, 2]}
  model.curiosity.mc_samples: {int: [2, 40], log: true}
  data.normalization: {choice: [sqrt_layer, standard]}
  train.mode: {choice: [qat, ptq]}
  train.epochs: {int: [5, 80], log: true}
  train.batch_size: {choice: [16, 32, 64]}
  train.learning_rate: {float: [1e-4, 1e-1], log: true}
  train.weight_decay: {float: [0, 1]}
  train.label_smoothing: {float: [0, 0.2]}
  train.class_weights: {choice: [true, false]}
"""
# Small enough to be walked through, with every conditional parameter.
SMALL = """
name: small
search:
  model.num_experts: {int: [1, 3]}
  model.schemes: {mix: [popcount, int1, ternary, fp32]}
  model.top_k: {int: [1, 2]}
  model.hidden: {choice: {linear: [], small: [7, 6]}}
  model.head_scheme: {choice: {own: null, four: 4}}
  model.router.hidden: {choice: [0, 3]}
  model.curiosity.alpha: {choice: [0.0, 0.5]}
  data.normalization: {choice: [raw, standard]}
"""
SAMPLERS: dict[Literal["random", "tpe", "nsga2"], int] = {"random": 180, "tpe": 40, "nsga2": 90}


def _sweep(folder: Path, text: str) -> SweepConfig:
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return load_sweep(path)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> SweepConfig:
    return _sweep(tmp_path_factory.mktemp("wide"), WIDE)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SweepConfig:
    return _sweep(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="module")
def esc10() -> EmbeddingSet:
    return load_embeddings("esc10")


@pytest.fixture(scope="module")
def draws(wide: SweepConfig) -> dict[str, list[tuple[FrozenTrial, TrialConfig]]]:
    """Trials of each sampler, with the configurations that they became."""
    found: dict[str, list[tuple[FrozenTrial, TrialConfig]]] = {}
    for name, n_trials in SAMPLERS.items():
        sampler = dataclasses.replace(wide.sampler, name=name)
        sweep = dataclasses.replace(wide, sampler=sampler)
        study: Study = optuna.create_study(directions=["maximize", "minimize"])
        rng = np.random.default_rng(0)
        found[name] = []
        for number in range(n_trials):
            study.sampler = make_sampler(sweep, number)
            trial = study.ask()
            config = suggest(sweep, trial)
            study.tell(trial, [rng.random(), len(config.model.schemes) + rng.random()])
            found[name].append((study.get_trials(deepcopy=False)[number], config))
    return found


class Script:
    """A source of draws that takes them from a list, and notes how many each could have been."""

    def __init__(self, places: Sequence[int], mix: tuple[str, ...]) -> None:
        self.places, self.mix = list(places), mix
        self.sizes: list[int] = []
        self.params: dict[str, Any] = {}

    def _take(self, name: str, options: Sequence[Any]) -> Any:
        step = len(self.sizes)
        place = self.places[step] if step < len(self.places) else 0
        self.sizes.append(len(options))
        self.params[name] = options[place]
        return options[place]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._take(name, range(low, high + 1)))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert name == "model.schemes", f"{name} cannot be walked through"
        n_mixes = math.comb(
            len(self.mix) + self.params["model.num_experts"] - 1, len(self.mix) - 1
        )
        return float(self._take(name, [(i + 0.5) / n_mixes for i in range(n_mixes)]))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._take(name, choices)


def _walk(sweep: SweepConfig) -> Iterator[tuple[dict[str, Any], TrialConfig]]:
    """Every draw of a finite space, like an odometer whose later wheels depend on earlier ones."""
    mix = sweep.search["model.schemes"]
    assert isinstance(mix, MixDomain)
    places: list[int] = []
    while True:
        script = Script(places, mix.schemes)
        config = suggest(sweep, script)
        yield script.params, config
        places = (places + [0] * len(script.sizes))[: len(script.sizes)]
        while places and places[-1] == script.sizes[len(places) - 1] - 1:
            places.pop()
        if not places:
            return
        places[-1] += 1


def _expected_keys(sweep: SweepConfig, config: TrialConfig) -> set[str]:
    """What must be drawn for a configuration, spelt out key by key."""
    keys = set(sweep.search)
    if config.model.num_experts == 1:
        keys -= {
            "model.top_k",
            "model.load_balance_weight",
            "model.router.hidden",
            "model.router.scheme",
            "model.router.dropout",
        }
    if len({float(SCHEMES[scheme].bits) for scheme in config.model.schemes}) == 1:
        keys -= {"model.curiosity.alpha"}
    if config.model.hidden == ():
        keys -= {"model.dropout", "model.head_scheme"}
    return keys


def _in_domain(sweep: SweepConfig, key: str, value: Any) -> bool:
    domain = sweep.search[key]
    if isinstance(domain, IntDomain):
        return type(value) is int and domain.low <= value <= domain.high
    if isinstance(domain, FloatDomain):
        return type(value) is float and domain.low <= value <= domain.high
    if isinstance(domain, ChoiceDomain):
        allowed: list[Any] = [list(v) if isinstance(v, tuple) else v for v in domain.values]
        if key.endswith("scheme"):
            allowed = [None if v is None else scheme_name(v) for v in allowed]
        return value in allowed
    return set(value) <= set(domain.schemes)


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestDraws:
    def test_are_canonical(
        self, draws: dict[str, list[tuple[FrozenTrial, TrialConfig]]], sampler: str
    ) -> None:
        for trial, config in draws[sampler]:
            assert config == config.canonical(), f"{sampler} trial {trial.number}: {trial.params}"

    def test_stay_within_their_domains(
        self,
        wide: SweepConfig,
        draws: dict[str, list[tuple[FrozenTrial, TrialConfig]]],
        sampler: str,
    ) -> None:
        for trial, config in draws[sampler]:
            flat = config.flat()
            for key in _expected_keys(wide, config):
                where = f"{sampler} trial {trial.number}: {key} = {flat[key]!r}"
                assert _in_domain(wide, key, flat[key]), where
            assert config.model.top_k <= config.model.num_experts

    def test_have_as_many_schemes_as_experts(
        self, draws: dict[str, list[tuple[FrozenTrial, TrialConfig]]], sampler: str
    ) -> None:
        for trial, config in draws[sampler]:
            assert trial.params["model.num_experts"] == len(config.model.schemes), trial.params

    def test_hold_no_key_that_cannot_matter(
        self,
        wide: SweepConfig,
        draws: dict[str, list[tuple[FrozenTrial, TrialConfig]]],
        sampler: str,
    ) -> None:
        seen = Counter[int]()
        for trial, config in draws[sampler]:
            expected = _expected_keys(wide, config)
            assert set(trial.params) == expected, f"{sampler} trial {trial.number}: {config}"
            seen[len(expected)] += 1
        assert len(seen) > 3, f"{sampler} drew too little to test anything: {seen}"

    def test_give_the_same_configuration_when_replayed(
        self,
        wide: SweepConfig,
        draws: dict[str, list[tuple[FrozenTrial, TrialConfig]]],
        sampler: str,
    ) -> None:
        for trial, config in draws[sampler]:
            again = suggest(wide, FixedTrial(trial.params))
            assert again == config, f"{sampler} trial {trial.number}: {trial.params}"
            assert again.digest == config.digest

    def test_are_as_different_as_their_parameters(
        self,
        wide: SweepConfig,
        draws: dict[str, list[tuple[FrozenTrial, TrialConfig]]],
        sampler: str,
    ) -> None:
        mix = wide.search["model.schemes"]
        assert isinstance(mix, MixDomain)
        by_params: dict[str, str] = {}
        for trial, config in draws[sampler]:
            params = dict(trial.params)
            n_mixes = len(mixes(mix.schemes, params["model.num_experts"]))
            params["model.schemes"] = min(int(params["model.schemes"] * n_mixes), n_mixes - 1)
            key = str(sorted(params.items()))
            assert by_params.setdefault(key, config.digest) == config.digest, trial.params
        assert len(set(by_params.values())) == len(by_params)


def test_the_draws_reach_every_kind_of_model(
    draws: dict[str, list[tuple[FrozenTrial, TrialConfig]]],
) -> None:
    configs = [config for found in draws.values() for _, config in found]
    assert len(configs) >= 300
    assert {c.model.num_experts for c in configs} == {1, 2, 3, 4}
    assert {c.model.hidden for c in configs} == {(), (9,), (30, 20, 10)}
    assert {c.model.head_scheme for c in configs} == {None, "int8", "fp32"}
    assert {c.train.class_weights for c in configs} == {True, False}
    assert {c.model.top_k for c in configs} == {1, 2, 3}


def test_parameters_and_configurations_are_a_bijection(small: SweepConfig) -> None:
    found = list(_walk(small))
    digests = [config.digest for _, config in found]
    assert len(set(digests)) == len(found)
    # Counted by hand: mixes with one, and with several, sizes of bits among their schemes.
    expected = 0
    for num_experts in (1, 2, 3):
        schemes = small.search["model.schemes"]
        assert isinstance(schemes, MixDomain)
        for mix in itertools.combinations_with_replacement(schemes.schemes, num_experts):
            is_even = len({SCHEMES[scheme].bits for scheme in mix}) == 1
            n_routers = 1 if num_experts == 1 else 2 * 2
            n_shapes = 1 + 2
            expected += 2 * n_shapes * n_routers * (1 if is_even else 2)
    assert len(found) == expected


def test_every_draw_of_a_small_space_replays_through_optuna(small: SweepConfig) -> None:
    for params, config in itertools.islice(_walk(small), 0, None, 7):
        assert suggest(small, FixedTrial(params)) == config, params
        assert set(params) == _expected_keys(small, config)


@pytest.mark.parametrize("high", [3, 9])
def test_top_k_is_drawn_up_to_the_number_of_experts(tmp_path: Path, high: int) -> None:
    sweep = _sweep(
        tmp_path,
        "name: a\nsearch: {model.num_experts: {int: [1, 3]}, model.schemes: {mix: [1, 8]}, "
        f"model.top_k: {{int: [1, {high}]}}}}",
    )
    found = {(c.model.num_experts, c.model.top_k) for _, c in _walk(sweep)}
    assert found == {(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)}


def test_an_empty_search_always_gives_the_base(tmp_path: Path) -> None:
    sweep = _sweep(
        tmp_path,
        "name: a\ndata: {normalization: layer}\nfixed: {model: {schemes: [8, 1], top_k: 2}}",
    )
    assert suggest(sweep, FixedTrial({})) == sweep.base.canonical()
    assert suggest(sweep, FixedTrial({})).model.schemes == ("int1", "int8")


def test_baselines_are_plain_networks_with_one_thing_changed_at_a_time(wide: SweepConfig) -> None:
    configs = [suggest(wide, FixedTrial(params)) for params in baseline_params(wide)]
    assert [(c.model.schemes, c.model.hidden, c.data.normalization) for c in configs] == [
        (("int1",), (), "sqrt_layer"),
        (("ternary",), (), "sqrt_layer"),
        (("popcount",), (), "sqrt_layer"),
        (("int4",), (), "sqrt_layer"),
        (("fp32",), (), "sqrt_layer"),
        (("int1",), (9,), "sqrt_layer"),
        (("int1",), (30, 20, 10), "sqrt_layer"),
        (("int1",), (), "standard"),
    ]
    for config in configs:
        # The middle of its range, on the scale that it is drawn on; else the first choice.
        assert config.train.learning_rate == pytest.approx(math.sqrt(1e-5))
        assert config.model.input_dropout == 0.3
        assert config.model.head_scheme is None
        assert config.train.batch_size == 16


def test_a_study_takes_the_baselines_as_its_first_trials(wide: SweepConfig) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    expected = [suggest(wide, FixedTrial(params)) for params in baseline_params(wide)]
    for params in baseline_params(wide):
        study.enqueue_trial(params)
    assert [suggest(wide, study.ask()) for _ in expected] == expected


@pytest.mark.parametrize(
    "text",
    [
        "name: a",
        "name: a\nsearch: {model.dropout: {float: [0, 0.5]}}",
        "name: a\nsearch: {model.num_experts: {int: [2, 3]}, model.schemes: {mix: [1, 8]}}",
        "name: a\nfixed: {model: {num_experts: 2}}\nsearch: {model.schemes: {mix: [1, 8]}}",
    ],
)
def test_a_space_without_plain_networks_has_no_baselines(tmp_path: Path, text: str) -> None:
    assert baseline_params(_sweep(tmp_path, text)) == []


def _sizes(configs: Iterator[TrialConfig], data: EmbeddingSet) -> list[int]:
    return [packed_size_bytes(config, data) for config in configs]


def test_extremes_are_the_true_ends_of_a_space_that_can_be_walked_through(
    small: SweepConfig, esc10: EmbeddingSet
) -> None:
    every = _sizes((config for _, config in _walk(small)), esc10)
    extremes = _sizes(extreme_configs(small), esc10)
    assert (min(extremes), max(extremes)) == (min(every), max(every))


@pytest.mark.slow
@pytest.mark.parametrize("path", SWEEPS, ids=[str(p.relative_to(ROOT)) for p in SWEEPS])
def test_no_draw_of_a_published_sweep_is_outside_the_extremes(
    path: Path, esc10: EmbeddingSet
) -> None:
    _assert_within(load_sweep(path), esc10, slack=0)


@pytest.mark.slow
def test_no_draw_of_a_wide_space_is_outside_the_extremes(
    tmp_path: Path, esc10: EmbeddingSet
) -> None:
    # The length of a fractional alpha and of mc_samples in the header is not part of the search
    # for extremes: alpha's digits alone are allowed for.
    text = WIDE.replace("  model.curiosity.mc_samples: {int: [2, 40], log: true}\n", "")
    text = text.replace(", whole: esc", "")
    _assert_within(_sweep(tmp_path, text), esc10, slack=24)


def _assert_within(sweep: SweepConfig, data: EmbeddingSet, slack: int) -> None:
    extremes = _sizes(extreme_configs(sweep), data)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=11))
    for number in range(150):
        config = suggest(sweep, study.ask())
        size = packed_size_bytes(config, data)
        where = f"{sweep.name} trial {number} (seed 11): {size} bytes, {config}"
        assert min(extremes) <= size <= max(extremes) + slack, where


def test_extremes_hold_where_the_number_of_passes_is_searched(
    tmp_path: Path, esc10: EmbeddingSet
) -> None:
    for width in range(1, 9):
        sweep = _sweep(
            tmp_path,
            f"name: a\ndata: {{normalization: layer}}\n"
            f"fixed: {{model: {{hidden: [{width}]}}}}\n"
            "search: {model.curiosity.mc_samples: {choice: [2, 20, 200]}}",
        )
        every = [
            packed_size_bytes(suggest(sweep, FixedTrial({"model.curiosity.mc_samples": n})), esc10)
            for n in (2, 20, 200)
        ]
        extremes = _sizes(extreme_configs(sweep), esc10)
        assert (min(extremes), max(extremes)) == (min(every), max(every)), f"width {width}"


def test_extremes_are_canonical(small: SweepConfig) -> None:
    assert all(config == config.canonical() for config in extreme_configs(small))
