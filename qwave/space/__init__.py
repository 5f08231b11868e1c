"""Sweep files and search spaces: YAML to typed configuration, draws to trials."""

from qwave.space.parse import load_sweep, parse_config
from qwave.space.studies import load_comparison, load_confirmation, load_mixtures, load_uncertainty
from qwave.space.suggest import baseline_params, extreme_configs, mixes, suggest

__all__ = [
    "baseline_params",
    "extreme_configs",
    "load_comparison",
    "load_confirmation",
    "load_mixtures",
    "load_sweep",
    "load_uncertainty",
    "mixes",
    "parse_config",
    "suggest",
]
