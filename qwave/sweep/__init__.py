"""The study of a sweep: ask, train, record, report, resume."""

from qwave.sweep.estimate import expected_seconds
from qwave.sweep.launcher import FinishedTrial, Launcher
from qwave.sweep.plan import Plan, plan_sweep
from qwave.sweep.pool import worker_count
from qwave.sweep.repeats import Bench, Repeat, opened_bench, write_study
from qwave.sweep.report import collect_points, front_of, point_config
from qwave.sweep.run import Outcome, run_sweep
from qwave.sweep.study import load_study, queued_again, study_names

__all__ = [
    "Bench",
    "FinishedTrial",
    "Launcher",
    "Outcome",
    "Plan",
    "Repeat",
    "load_study",
    "point_config",
    "collect_points",
    "expected_seconds",
    "front_of",
    "opened_bench",
    "plan_sweep",
    "queued_again",
    "run_sweep",
    "study_names",
    "worker_count",
    "write_study",
]
