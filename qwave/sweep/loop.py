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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, wait
from contextlib import contextmanager

from optuna.study import Study
from optuna.trial import TrialState
from tqdm import tqdm

from qwave.config import QwaveError, WorkerLostError
from qwave.packing import packed_size_bytes
from qwave.sweep.ask import Asker, Draw
from qwave.sweep.estimate import remaining_seconds
from qwave.sweep.launcher import FinishedTrial, Launcher
from qwave.sweep.plan import Plan
from qwave.sweep.progress import Progress
from qwave.sweep.record import Recorder
from qwave.sweep.study import give_back

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class _InFlight:
    """A trial under way; without a future it repeats the configuration of an earlier one."""

    draw: Draw
    run_id: str
    future: Future[FinishedTrial] | None


class Loop:
    """The trials of a study, from this start to its end.

    Attributes:
        progress: The trials told so far, those of earlier starts among them.
        queue: The trials under way, oldest first.
        run_ids: MLflow run of every configuration that is trained or under way, by its digest.
        trial_seconds: Seconds of each trial that was trained since this start.
        record_seconds: Wall time spent on recording trials; `record_cpu_seconds`, the processor
            time of it.
    """

    def __init__(
        self,
        plan: Plan,
        study: Study,
        recorder: Recorder,
        launcher: Launcher,
        is_stopped: Callable[[], bool],
    ) -> None:
        self.plan, self.study, self.recorder, self.launcher = plan, study, recorder, launcher
        self.is_stopped = is_stopped
        self.asker = Asker(study, plan.sweep)
        self.progress = Progress(study)
        self.queue: deque[_InFlight] = deque()
        self.run_ids = {
            digest: str(trial.user_attrs["mlflow_run_id"])
            for digest, trial in self.progress.trained.items()
        }
        self.trial_seconds: list[float] = []
        self.has_failed = False
        self.record_seconds = 0.0
        self.record_cpu_seconds = 0.0

    def run(self) -> None:
        """Ask and tell until nothing is left, or a person stops it."""
        sweep, progress = self.plan.sweep, self.progress
        in_flight, total = sweep.sampler.in_flight, sweep.budget.n_trials
        # Time left is ours: tqdm's would count the trials of earlier starts as done in this one.
        # All of it fits into 80 columns, a name of 20 letters included.
        shape = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {elapsed}{postfix}"
        with tqdm(total=total, desc=sweep.name, dynamic_ncols=True, bar_format=shape) as bar:
            self._show(bar)
            try:
                while not self.is_stopped():
                    if len(self.queue) < min(in_flight, progress.n_left(total)):
                        self._ask()
                    elif not self.queue:
                        break
                    elif self._is_done(self.queue[0]):
                        self._tell(self.queue[0])
                        self.queue.popleft()
                        self._show(bar)
            finally:
                for entry in self.queue:
                    if entry.future is not None:
                        self.recorder.fail(entry.run_id, "interrupted", "stopped; runs again")
                    give_back(self.study, entry.draw.trial.number)

    def _ask(self) -> None:
        """Draw a trial, and start it unless it is known or too big."""
        draw = self.asker.ask()
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
            self._tell_optuna(draw, state=TrialState.PRUNED)
            self.recorder.refuse(run_id, size, limit)
        else:
            self.run_ids[draw.digest] = run_id
            future = self.launcher.submit(draw.config)
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
            raise WorkerLostError(self.launcher.why_lost("budget.workers")) from error
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
        self._tell_optuna(entry.draw, [scores[objective.score] for objective in objectives])

    def _tell_duplicate(self, draw: Draw) -> None:
        """The result of an equal configuration, asked earlier and therefore told already."""
        trial = draw.trial
        trial.set_user_attr("outcome", "duplicate")
        twin = self.progress.trained.get(draw.digest)
        if twin is None:  # it failed
            self._tell_optuna(draw, state=TrialState.FAIL)
            return
        for name in ("scores", "fold_scores", "seconds"):
            trial.set_user_attr(name, twin.user_attrs[name])
        trial.set_user_attr("duplicate_of", twin.number)
        self._tell_optuna(draw, twin.values)

    def _tell_failure(self, entry: _InFlight, error: BaseException) -> None:
        trial = entry.draw.trial
        if not isinstance(error, QwaveError) and not self.has_failed:
            # Once: what fails is mostly the same in every trial, and all reasons are recorded.
            _log.error("trial %d failed", trial.number, exc_info=error)
        self.has_failed = True
        reason = f"{type(error).__name__}: {error}"
        del self.run_ids[entry.draw.digest]
        trial.set_user_attr("outcome", "failed")
        trial.set_user_attr("reason", reason)
        self.recorder.fail(entry.run_id, "failed", reason)
        self._tell_optuna(entry.draw, state=TrialState.FAIL)

    def _tell_optuna(
        self, draw: Draw, values: Sequence[float] | None = None, state: TrialState | None = None
    ) -> None:
        self.progress.add(self.study.tell(draw.trial, values, state))

    @contextmanager
    def _recording(self) -> Iterator[None]:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        yield
        self.record_seconds += time.perf_counter() - begin
        self.record_cpu_seconds += time.process_time() - begin_cpu

    def _show(self, bar: tqdm) -> None:
        progress, sweep = self.progress, self.plan.sweep
        n_left = progress.n_left(sweep.budget.n_trials)
        bar.n = bar.total - n_left
        front = progress.front
        best = f"{front[-1][0]:.1%}" if front else "none"
        n_parallel = min(self.launcher.n_parallel, sweep.sampler.in_flight)
        left = remaining_seconds(self.trial_seconds, n_left, n_parallel, self.record_seconds)
        time_left = "" if left is None else f"{tqdm.format_interval(left)} left, "
        bar.set_postfix_str(f"{time_left}front {len(front)}, best {best}")
