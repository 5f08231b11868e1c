"""The study of a sweep: ask, train, record, report, resume."""

from qwave.sweep.estimate import expected_seconds
from qwave.sweep.plan import Plan, plan_sweep
from qwave.sweep.pool import WorkerLostError, worker_count
from qwave.sweep.report import front_of
from qwave.sweep.run import Outcome, run_sweep
from qwave.sweep.store import check_store

__all__ = [
    "Outcome",
    "Plan",
    "WorkerLostError",
    "check_store",
    "expected_seconds",
    "front_of",
    "plan_sweep",
    "run_sweep",
    "worker_count",
]
