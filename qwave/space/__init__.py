"""Sweep files and search spaces: YAML to typed configuration, draws to trials."""

from qwave.space.parse import load_sweep, parse_config
from qwave.space.suggest import baseline_params, extreme_configs, mixes, suggest

__all__ = [
    "baseline_params",
    "extreme_configs",
    "load_sweep",
    "mixes",
    "parse_config",
    "suggest",
]
