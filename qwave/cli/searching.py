"""What ``qwave search`` does, and how it shows a plan and an outcome on the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from qwave.cli.fronts import as_json as point_json
from qwave.cli.fronts import front_table
from qwave.config import ChoiceDomain, Domain, IntDomain, MixDomain
from qwave.report import terminal_width
from qwave.space import load_sweep
from qwave.store import Store, check_store
from qwave.sweep import Outcome, Plan, expected_seconds, plan_sweep, run_sweep, worker_count
from qwave.text import for_terminal


def search_and_show(path: str, overrides: Sequence[str], arguments: argparse.Namespace) -> int:
    """Plan, run, and say what came out; returns the exit code of ``qwave search``."""
    if arguments.trials is not None:
        overrides = [*overrides, f"budget.n_trials={arguments.trials}"]
    sweep = load_sweep(path, overrides, is_smoke=arguments.smoke)
    store = Store(arguments.store)
    check_store(store)
    plan = plan_sweep(sweep, arguments.device)
    if arguments.dry_run:
        sys.stdout.write(plan_text(plan) + "\n")
        return 0
    outcome = run_sweep(plan, store, is_fresh=arguments.fresh, is_retry=arguments.retry_failed)
    show_outcome(outcome, sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        sys.stdout.write(json.dumps(as_json(outcome)) + "\n")
    if outcome.is_interrupted:
        return 130
    return 0 if outcome.front else 1


def plan_text(plan: Plan) -> str:
    """What would be searched, how large its files are, and how long it will take."""
    sweep, data = plan.sweep, plan.data
    n_workers = worker_count(sweep.budget.workers, plan.device)
    minutes = expected_seconds(plan) / 60
    is_random = sweep.sampler.name == "random"
    return "\n".join(
        [
            f"{sweep.name}: {len(data.y)} clips x {data.x.shape[1]} features, {data.num_classes} "
            f"classes, {sweep.data.n_folds} folds, digest {data.digest}",
            *(f"  {key:24} {describe_domain(domain)}" for key, domain in sweep.search.items()),
            f"smallest file {plan.smallest_bytes:,} bytes, largest {plan.largest_bytes:,} bytes, "
            f"budget {sweep.budget.max_size_bytes:,} bytes",
            f"{sweep.budget.n_trials} trials on {plan.device} with {n_workers} worker(s): "
            f"about {minutes:.{0 if minutes >= 10 else 1}f} minutes, measured on a few of them"
            + ("" if is_random else "; less where the sampler leaves the large models behind"),
        ]
    )


def describe_domain(domain: Domain) -> str:
    """A domain in one line."""
    if isinstance(domain, MixDomain):
        return "mix of " + ", ".join(domain.schemes)
    if isinstance(domain, ChoiceDomain):
        return " | ".join(
            str(name)
            if name == value
            else f"{name} = {list(value)}"
            if isinstance(value, tuple)
            else f"{name} = {value}"
            for name, value in zip(domain.names, domain.values, strict=True)
        )
    kind = "int" if isinstance(domain, IntDomain) else "float"
    return f"{kind} {domain.low:g} to {domain.high:g}{' (log)' if domain.log else ''}"


def show_outcome(outcome: Outcome, stream: TextIO) -> None:
    """The front as a table, what was written, and how to look at it."""

    def say(text: str = "") -> None:
        stream.write(for_terminal(text, keeps_lines=True) + "\n")

    counts = outcome.counts
    if not outcome.front:
        show_no_front(outcome, say)
        return
    say()
    say(front_table(outcome.front).text(terminal_width(stream)))
    say()
    say(
        f"{counts['complete']} trials complete, {counts['pruned']} over the size budget, "
        f"{counts['failed']} failed; front of {len(outcome.front)}, hypervolume "
        f"{outcome.hypervolume:.4f}, {outcome.seconds:.0f} s"
    )
    if outcome.first_failure:
        say(f"first failure: {outcome.first_failure}")
        say("--retry-failed trains again what failed, which counts as trials until then")
    if outcome.is_interrupted:
        say("stopped early: the same command goes on from here")
    for path in outcome.reports:
        say(f"  {path}")
    for purpose, command in outcome.commands.items():
        say(f"{purpose}:  {command}")


def show_no_front(outcome: Outcome, say: Callable[[str], None]) -> None:
    """Why there is no model to show."""
    counts = outcome.counts
    if counts["failed"]:
        say(f"error: all {counts['failed']} trials failed; the first, {outcome.first_failure}")
        say("the same command with --retry-failed trains them again, once the reason is gone")
    elif outcome.is_interrupted:
        say("stopped before the first trial had ended: the same command starts again")
        return
    else:
        say(f"error: none of {counts['pruned']} configurations was within the size budget")
    if outcome.is_interrupted:
        say("stopped early: the same command goes on from here")
    for purpose, command in outcome.commands.items():
        say(f"{purpose}:  {command}")


def as_json(outcome: Outcome) -> dict[str, object]:
    """The object that ``--json`` prints."""
    return {
        **outcome.counts,
        **({"first_failure": outcome.first_failure} if outcome.first_failure else {}),
        "front": [point_json(point) for point in outcome.front],
        "hypervolume": outcome.hypervolume,
        "seconds": round(outcome.seconds, 2),
    }
