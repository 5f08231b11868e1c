"""The trials of a study: ask, train, tell, record.

Trials are told in the order in which they were asked, and always `sampler.in_flight` of them are
under way: what the sampler knows when it draws a trial depends on the trial's number alone, not on
which worker was faster. The same sweep in two fresh stores therefore draws the same trials.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, wait
from contextlib import contextmanager

from optuna.study import Study
from optuna.trial import TrialState
from tqdm import tqdm

from qwave.config import QwaveError, WorkerLostError
from qwave.packing import packed_size_bytes
from qwave.space import suggest
from qwave.sweep.estimate import remaining_seconds
from qwave.sweep.plan import Plan
from qwave.sweep.pool import TrainingPool
from qwave.sweep.record import FinishedTrial, Recorder
from qwave.sweep.report import front_scores, study_hypervolume
from qwave.sweep.study import Draw, ask, give_back, trained_trials, trials_left

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class _InFlight:
    """A trial under way; without a future it repeats the configuration of an earlier one."""

    draw: Draw
    run_id: str
    future: Future[FinishedTrial] | None


class Loop:
    """The trials under way, oldest first."""

    def __init__(
        self,
        plan: Plan,
        study: Study,
        recorder: Recorder,
        pool: TrainingPool,
        is_stopped: Callable[[], bool],
        n_workers: int = 1,
    ) -> None:
        self.plan, self.study, self.recorder, self.pool = plan, study, recorder, pool
        self.is_stopped = is_stopped
        self.n_parallel = min(n_workers, plan.sweep.sampler.in_flight)
        # Of each trial that was trained since this start.
        self.trial_seconds: list[float] = []
        self.queue: deque[_InFlight] = deque()
        # MLflow run of every configuration that is trained or under way.
        self.run_ids = {
            trial.user_attrs["digest"]: str(trial.user_attrs["mlflow_run_id"])
            for trial in trained_trials(study)
        }
        self.first_failure: str | None = None
        self.record_seconds = 0.0
        self.record_cpu_seconds = 0.0

    def run(self) -> None:
        """Ask and tell until nothing is left, or a person stops it."""
        sweep, study = self.plan.sweep, self.study
        total = sweep.budget.n_trials
        # Time left is ours: tqdm's would count the trials of earlier starts as done in this one.
        shape = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
        with tqdm(total=total, desc=sweep.name, dynamic_ncols=True, bar_format=shape) as bar:
            bar.n = total - trials_left(study, sweep)
            self._show(bar)
            try:
                while not self.is_stopped():
                    if len(self.queue) < sweep.sampler.in_flight and trials_left(
                        study, sweep
                    ) > len(self.queue):
                        self._ask()
                    elif not self.queue:
                        break
                    elif self._is_done(self.queue[0]):
                        self._tell(self.queue[0])
                        self.queue.popleft()
                        bar.n = total - trials_left(study, sweep)
                        self._show(bar)
            finally:
                for entry in self.queue:
                    if entry.future is not None:
                        self.recorder.fail(entry.run_id, "interrupted", "stopped; runs again")
                    give_back(study, entry.draw.trial.number)

    def _ask(self) -> None:
        """Draw a trial, and start it unless it is known or too big."""
        draw = ask(self.study, self.plan.sweep, suggest)
        trial, limit = draw.trial, self.plan.sweep.budget.max_size_bytes
        size = packed_size_bytes(draw.config, self.plan.data)
        trial.set_constraint("size_bytes", float(size - limit))
        trial.set_user_attr("size_bytes", size)
        is_known = draw.digest in self.run_ids
        if is_known:
            run_id = self.run_ids[draw.digest]
        else:
            with self._recording():
                run_id = self.recorder.start(trial.number, draw.config, size)
        trial.set_user_attr("mlflow_run_id", run_id)
        if is_known:
            self.queue.append(_InFlight(draw, run_id, None))
        elif size > limit:
            trial.set_user_attr("outcome", "over_budget")
            self.study.tell(trial, state=TrialState.PRUNED)
            self.recorder.refuse(run_id, size, limit)
        else:
            self.run_ids[draw.digest] = run_id
            future = self.pool.submit(draw.config)
            self.queue.append(_InFlight(draw, run_id, future))

    def _is_done(self, entry: _InFlight) -> bool:
        """Whether a trial has ended; waits for it half a second at most."""
        if entry.future is None:
            return True
        return bool(wait([entry.future], timeout=_POLL_SECONDS).done)

    def _tell(self, entry: _InFlight) -> None:
        """Tell Optuna how a trial ended, and write its record."""
        if entry.future is None:
            self._tell_duplicate(entry.draw)
            return
        error = entry.future.exception()
        if isinstance(error, BrokenExecutor):
            raise WorkerLostError(self.pool.why_lost("budget.workers")) from error
        if error is not None:
            self._tell_failure(entry, error)
            return
        finished = entry.future.result()
        trial, scores = entry.draw.trial, finished.result.scores
        trial.set_user_attr("scores", dict(scores))
        fold_scores = {name: list(v) for name, v in finished.result.fold_scores.items()}
        trial.set_user_attr("fold_scores", fold_scores)
        trial.set_user_attr("seconds", round(finished.result.seconds, 3))
        # Recorded first: a trial that Optuna calls complete has its files.
        with self._recording():
            self.recorder.finish(entry.run_id, finished)
        self.trial_seconds.append(finished.result.seconds)
        objectives = self.plan.sweep.objectives
        self.study.tell(trial, [scores[objective.score] for objective in objectives])

    def _tell_duplicate(self, draw: Draw) -> None:
        """The result of an equal configuration, asked earlier and therefore told already."""
        trial = draw.trial
        trial.set_user_attr("outcome", "duplicate")
        for twin in trained_trials(self.study):
            if twin.user_attrs["digest"] == draw.digest:
                for name in ("scores", "fold_scores", "seconds"):
                    trial.set_user_attr(name, twin.user_attrs[name])
                trial.set_user_attr("duplicate_of", twin.number)
                self.study.tell(trial, twin.values)
                return
        self.study.tell(trial, state=TrialState.FAIL)  # as its twin did

    def _tell_failure(self, entry: _InFlight, error: BaseException) -> None:
        trial = entry.draw.trial
        if not isinstance(error, QwaveError) and self.first_failure is None:
            # Once: what fails is mostly the same in every trial, and all reasons are recorded.
            _log.error("trial %d failed", trial.number, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        self.first_failure = self.first_failure or f"trial {trial.number}: {reason}"
        del self.run_ids[entry.draw.digest]
        trial.set_user_attr("outcome", "failed")
        trial.set_user_attr("reason", reason)
        self.recorder.fail(entry.run_id, "failed", reason)
        self.study.tell(trial, state=TrialState.FAIL)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        yield
        self.record_seconds += time.perf_counter() - begin
        self.record_cpu_seconds += time.process_time() - begin_cpu

    def _show(self, bar: tqdm) -> None:
        front = front_scores(self.study)
        best = f"{front[-1][0]:.1%}" if front else "none"
        volume = study_hypervolume(self.study)
        left = remaining_seconds(
            self.trial_seconds, int(bar.total - bar.n), self.n_parallel, self.record_seconds
        )
        time_left = "" if left is None else f"about {tqdm.format_interval(left)} left, "
        bar.set_postfix_str(
            f"{time_left}front {len(front)}, best {best}, hypervolume {volume:.3f}"
        )
