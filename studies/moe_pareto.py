"""How accurate can a classifier be at every size? The accuracy-vs-size Pareto front of a sweep.

python -m studies.moe_pareto [SWEEP.yaml] [dotted.key=value ...] [--store DIR]
    [--device cpu|cuda|mps] [--trials N] [--smoke] [--fresh] [--retry-failed] [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from qwave.config import ChoiceDomain, Domain, IntDomain, MixDomain
from qwave.report import size_text
from qwave.space import load_sweep
from qwave.store import check_store
from qwave.sweep import Outcome, Plan, expected_seconds, plan_sweep, run_sweep, worker_count
from qwave.text import for_terminal
from studies.command_line import (
    EXIT_CODES,
    add_retry,
    add_store,
    guarded,
    split_positionals,
)

DEFAULT_SWEEP = "sweeps/moe_pareto.yaml"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code (see `guarded`)."""
    return guarded(run, parse_arguments(argv))


def run(arguments: argparse.Namespace) -> int:
    """Plan, run, and say what came out; returns the exit code.

    0 where there is a front, 1 where no trial was trained, 130 if a person stopped it.
    """
    path, overrides = split_positionals(arguments.arguments, DEFAULT_SWEEP)
    if arguments.trials is not None:
        overrides = [*overrides, f"budget.n_trials={arguments.trials}"]
    sweep = load_sweep(path, overrides, is_smoke=arguments.smoke)
    check_store(arguments.store)
    plan = plan_sweep(sweep, arguments.device)
    if arguments.dry_run:
        show_plan(plan)
        return 0
    outcome = run_sweep(
        plan, arguments.store, is_fresh=arguments.fresh, is_retry=arguments.retry_failed
    )
    show_outcome(outcome, sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        print(json.dumps(as_json(outcome)))
    if outcome.is_interrupted:
        return 130
    return 0 if outcome.front else 1


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m studies.moe_pareto",
        description="Search for the accuracy-vs-size Pareto front of quantized mixtures.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="SWEEP.yaml | key=value",
        help=f"the sweep (default {DEFAULT_SWEEP}) and overrides such as train.epochs=20",
    )
    add_store(parser)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or mps")
    parser.add_argument("--trials", type=int, help="number of trials, instead of the sweep's")
    parser.add_argument("--smoke", action="store_true", help="the same path: few, short trials")
    parser.add_argument("--fresh", action="store_true", help="drop this sweep's earlier trials")
    add_retry(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything, train nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object last on stdout")
    return parser.parse_intermixed_args(argv)


def show_plan(plan: Plan) -> None:
    """What would be searched, how large its files are, and how long it will take."""
    sweep, data = plan.sweep, plan.data
    print(
        f"{sweep.name}: {len(data.y)} clips x {data.x.shape[1]} features, {data.num_classes} "
        f"classes, {sweep.data.n_folds} folds, digest {data.digest}"
    )
    for key, domain in sweep.search.items():
        print(f"  {key:24} {describe_domain(domain)}")
    print(
        f"smallest file {plan.smallest_bytes:,} bytes, largest {plan.largest_bytes:,} bytes, "
        f"budget {sweep.budget.max_size_bytes:,} bytes"
    )
    n_workers = worker_count(sweep.budget.workers, plan.device)
    minutes = expected_seconds(plan) / 60
    is_random = sweep.sampler.name == "random"
    print(
        f"{sweep.budget.n_trials} trials on {plan.device} with {n_workers} worker(s): "
        f"about {minutes:.{0 if minutes >= 10 else 1}f} minutes, measured on a few of them"
        + ("" if is_random else "; less where the sampler leaves the large models behind")
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
        print(for_terminal(text, keeps_lines=True), file=stream)

    counts = outcome.counts
    if not outcome.front:
        show_no_front(outcome, say)
        return
    say()
    say(f"{'trial':>5}  {'size':>10}  {'accuracy':>14}  {'digest':16}  configuration")
    for point in outcome.front:
        accuracy = f"{point.accuracy:.2%} ± {point.standard_error:.2%}"
        say(
            f"{point.number:5}  {size_text(point.size_bytes):>10}  {accuracy:>14}  "
            f"{point.digest:16}  {point.label}"
        )
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
    front = [
        {
            "accuracy": point.accuracy,
            "size_bytes": point.size_bytes,
            "digest": point.digest,
            "mlflow_run_id": point.mlflow_run_id,
        }
        for point in outcome.front
    ]
    return {
        **outcome.counts,
        **({"first_failure": outcome.first_failure} if outcome.first_failure else {}),
        "front": front,
        "hypervolume": outcome.hypervolume,
        "seconds": round(outcome.seconds, 2),
    }


if __name__ == "__main__":
    sys.exit(main())
