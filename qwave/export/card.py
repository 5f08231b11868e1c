"""The model card: what a model is, what it was seen to do, and what is not known about it.

The headings follow Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv 1810.03993),
and the cards of Hugging Face. Every section is a function from `Facts` to Markdown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet
from qwave.export.provenance import Provenance
from qwave.export.record import OutOfFold, Scores, Search, SearchedData
from qwave.export.sources import source_of
from qwave.export.verify import TOLERANCE, Agreement
from qwave.figures import FrontPoint
from qwave.packing import packed_size_parts
from qwave.runtime import PackedClassifier, Prediction
from qwave.statistics import Interval

# Score to its name, and whether it is a share.
_SCORES = {
    "accuracy": ("accuracy", True),
    "balanced_accuracy": ("balanced accuracy", True),
    "weighted_f1": ("weighted F1", True),
    "macro_f1": ("macro F1", True),
    "nll": ("negative log likelihood, nats", False),
    "brier": ("Brier score", False),
    "ece": ("expected calibration error", True),
    "roc_auc": ("ROC AUC", True),
}


@dataclass(frozen=True, eq=False)
class Facts:
    """Everything that a card says.

    Attributes:
        search: The sweep.
        point: The trial, as the search saw it.
        config: Its canonical configuration.
        data: All rows of the file, and those that the search had.
        said: Out-of-fold predictions of the trial.
        scores: Of them.
        is_refitted: Trained again on all rows; else it is the model of the first fold.
        model: As read back from the file.
        seen: What it says of all rows of the file.
        agreement: With the trained mixture; of a first fold's model, with what the trial recorded.
        onnx_agreement: Of the ONNX file with the packed model; None without one.
        latency_us: Batch size to microseconds.
        provenance: Where it was made.
    """

    search: Search
    point: FrontPoint
    config: TrialConfig
    data: SearchedData
    said: OutOfFold
    scores: Scores
    is_refitted: bool
    model: PackedClassifier
    seen: Prediction
    agreement: Agreement
    onnx_agreement: Agreement | None
    latency_us: Mapping[int, float]
    provenance: Provenance

    @property
    def accuracy(self) -> Interval:
        """Out-of-fold, with its interval over recordings."""
        return self.scores.intervals["accuracy"]


def model_card(facts: Facts) -> str:
    """The card, in Markdown."""
    sections = {
        "Model details": _details,
        "Use": _use,
        "Training data": _training_data,
        "Evaluation": _evaluation,
        "Size and speed": _size_and_speed,
        "Routing and curiosity": _routing,
        "Agreement": _agreement,
        "Caveats": _caveats,
        "Provenance": _provenance,
    }
    point = facts.point
    title = f"# {facts.search.name}, trial {point.number}: {point.label}"
    parts = [f"## {heading}\n\n{write(facts)}" for heading, write in sections.items()]
    return "\n\n".join([title, *parts]) + "\n"


def _details(facts: Facts) -> str:
    header = facts.model.packed.header
    model, train = header.model, facts.config.train
    router = f"{model.router.hidden} hidden units" if model.router.hidden else "linear"
    of_mixture = {
        "router": f"{router}, {model.router.scheme}, top-{model.top_k}",
        "curiosity tilt": f"alpha {model.curiosity.alpha:g}",
    }
    of_hidden = {"scheme of the last layer": model.head_scheme or "the expert's own"}
    rows = {
        "file": f"`model.qwave`, {facts.point.size_bytes} bytes",
        "experts": ", ".join(model.schemes),
        "hidden units": "-".join(map(str, model.hidden)) or "none (linear)",
        **(of_hidden if model.hidden else {}),
        **(of_mixture if model.num_experts > 1 else {}),
        "input": f"embeddings of {header.in_features} numbers, normalised by "
        f"`{header.normalization}` inside the model",
        "output": f"probabilities of {len(header.class_names)} classes: "
        + ", ".join(header.class_names),
        "training": f"{train.mode}, {train.epochs} epochs, batches of {train.batch_size}, "
        f"learning rate {train.learning_rate:.4g}, distillation {train.distillation:g}",
    }
    return _table(("", ""), rows.items())


def _use(facts: Facts) -> str:
    width = facts.model.packed.header.in_features
    source = source_of(facts.config.data.path)
    return (
        "```python\nimport qwave\n\n"
        'model = qwave.load_packed("model.qwave")\n'
        f"labels = model.predict(x)  # x: embeddings, float32 [clips, {width}]\n```\n\n"
        f"{source.embedding} Embeddings of another kind are accepted if they are as wide, and the "
        "answers mean nothing. There is no class for other sounds: every clip gets one of the "
        "classes above."
    )


def _training_data(facts: Facts) -> str:
    full, rows = facts.data.full, _training_rows(facts)
    recordings = "not known" if full.group is None else str(len(np.unique(full.group[rows])))
    values = {
        "data": f"`{facts.config.data.path}`, digest `{full.digest}`",
        "clips": str(len(rows)),
        "classes": str(full.num_classes),
        "recordings": recordings,
        "licence": source_of(facts.config.data.path).licence,
    }
    return f"{_what_it_saw(facts)}\n\n{_table(('', ''), values.items())}"


def _training_rows(facts: Facts) -> np.ndarray:
    """Rows of the file, or of the search for a model of the first fold, that trained."""
    if facts.is_refitted:
        return np.arange(len(facts.data.full.y))
    return np.flatnonzero(facts.said.fold != 0)


def _what_it_saw(facts: Facts) -> str:
    data, held_out = facts.data, facts.config.data.holdout_fold
    n_full, n_searched = len(data.full.y), len(data.searched.y)
    if not facts.is_refitted:
        n_unseen = int((facts.said.fold == 0).sum())
        return (
            f"This is the model of the first fold of the cross-validation. It has not seen that "
            f"fold: {n_unseen} of the {n_searched} clips of the search."
        )
    text = f"Refitted on all {n_full} clips, after the search."
    if held_out is not None:
        text += (
            f" Official fold {held_out} was kept from the search (`data.holdout_fold`): its "
            f"{n_full - n_searched} clips train this model, and no score below is about them."
        )
    return text


def _evaluation(facts: Facts) -> str:
    searched, said = facts.data.searched, facts.said
    return "\n\n".join(
        [
            f"{_folds(facts)} Each clip was predicted by the packed model that did not see its "
            "fold; scores are of all clips together, with 95 % intervals over recordings (BCa "
            f"bootstrap). The search went by the mean of the folds' accuracies, "
            f"{_percent(facts.point.accuracy)}.",
            _table(("score", "value", "95 % interval"), _score_rows(facts.scores)),
            _own_accuracy(facts),
            _table(("class", "clips", "recall", "precision"), _by_class(searched, said)),
        ]
    )


def _score_rows(scores: Scores) -> list[tuple[str, str, str]]:
    rows = []
    for score, (name, is_share) in _SCORES.items():
        show = _percent if is_share else "{:.3f}".format
        interval = scores.intervals.get(score)
        ends = f"{show(interval.low)} to {show(interval.high)}" if interval else "-"
        rows.append((name, show(scores.values[score]), ends))
    return rows


def _folds(facts: Facts) -> str:
    data, searched = facts.config.data, facts.data.searched
    kind = "official folds" if searched.fold is not None else "folds made by qwave"
    if searched.fold is None and searched.group is None:
        kind += ", stratified by class; recordings are not known, so clips of one may be on both "
        kind += "sides of a split"
    elif searched.fold is None:
        kind += ", stratified by class, no recording in two of them"
    elif data.drop_overlap:
        kind += ", recordings that span two of them left out of training"
    return f"{data.n_folds} {kind}; {len(searched.y)} clips."


def _own_accuracy(facts: Facts) -> str:
    if facts.is_refitted:
        return (
            "These are scores of the folds' models, of the same configuration. **The accuracy of "
            "this model has not been measured**: it was trained on all clips."
        )
    unseen = facts.said.fold == 0
    is_right = facts.said.probabilities.argmax(axis=1) == facts.data.searched.y
    return (
        f"This very model was right on {_percent(is_right[unseen].mean())} of the "
        f"{int(unseen.sum())} clips that it has not seen; the other folds have models of their "
        "own."
    )


def _by_class(searched: EmbeddingSet, said: OutOfFold) -> list[tuple[str, ...]]:
    predicted = said.probabilities.argmax(axis=1)
    rows: list[tuple[str, ...]] = []
    for label, name in enumerate(searched.class_names):
        is_true, is_claimed = searched.y == label, predicted == label
        n_hits = int((is_true & is_claimed).sum())
        precision = _percent(n_hits / is_claimed.sum()) if is_claimed.any() else "never predicted"
        rows.append((name, str(is_true.sum()), _percent(n_hits / is_true.sum()), precision))
    return rows


def _size_and_speed(facts: Facts) -> str:
    parts = packed_size_parts(facts.config, facts.data.full)
    share = (facts.seen.gates > 0).mean(axis=0)
    active = sum(share[expert] * parts[f"expert_{expert}"] for expert in range(len(share)))
    active += parts.get("router", 0) + parts.get("normalization", 0)
    sizes = [(name.replace("_", " "), str(size)) for name, size in parts.items()]
    times = [(str(batch), f"{us:.3g}") for batch, us in facts.latency_us.items()]
    return "\n\n".join(
        [
            _table(("part", "bytes"), [*sizes, ("all", str(sum(parts.values())))]),
            f"One prediction reads {active:.0f} bytes on average.",
            _table(("clips at once", "microseconds, median"), times),
            f"Embeddings to probabilities with `qwave.load_packed`, one thread of "
            f"{facts.provenance.processor}; on another device it takes another time.",
        ]
    )


def _routing(facts: Facts) -> str:
    model, seen = facts.model.packed.header.model, facts.seen
    n_samples = model.curiosity.mc_samples
    if model.num_experts == 1:
        return (
            "A plain network: one expert, no router. Its curiosity is the mutual information of "
            f"its predictions under MC-dropout ({n_samples} samples), "
            f"{seen.mutual_information.mean():.3g} nats on average over all clips of the file."
        )
    assert facts.model.packed.curiosity_range is not None, "a mixture carries its range"
    low, high = facts.model.packed.curiosity_range
    load = [
        (f"{expert}: {scheme}", _percent(gates.mean()), _percent((gates > 0).mean()))
        for expert, (scheme, gates) in enumerate(zip(model.schemes, seen.gates.T, strict=True))
    ]
    tilt = (
        f"It tilts uncertain clips toward experts with more bits: alpha {model.curiosity.alpha:g}."
        if model.curiosity.alpha > 0
        else "It does not change the routes: alpha 0."
    )
    return "\n\n".join(
        [
            _table(("expert", "weight", "clips sent to it"), load),
            "Over all clips of the file. Curiosity is the mutual information of the router under "
            f"MC-dropout ({n_samples} samples): {seen.mutual_information.mean():.3g} nats on "
            f"average; {low:.3g} counts as none and {high:.3g} as full. {tilt} How well it finds "
            "errors stands in the trial's MLflow run (`pooled_curiosity_error_auroc`, beside "
            "`pooled_max_probability_error_auroc`, which costs nothing).",
        ]
    )


def _agreement(facts: Facts) -> str:
    against = (
        "the trained mixture in torch, its biases rounded to float16 as the file holds them"
        if facts.is_refitted
        else "what the trial recorded of the fold that this model has not seen"
    )
    lines = [f"- with {against}: {_difference(facts.agreement)}, {TOLERANCE:g} allowed"]
    if facts.onnx_agreement is not None:
        lines.append(
            f"- of `model.onnx`, run in onnxruntime, with it: {_difference(facts.onnx_agreement)}"
        )
    return "The file was read back and its predictions compared:\n\n" + "\n".join(lines)


def _difference(agreement: Agreement) -> str:
    return (
        f"{agreement.n_clips} clips, largest difference of a probability "
        f"{agreement.largest_difference:.1e}, {agreement.n_other_class} with another class"
    )


def _caveats(facts: Facts) -> str:
    place = "on" if facts.point.is_front else "not on"
    lines = [
        f"{facts.search.n_trained} configurations were trained, and this one is {place} their "
        "front. The best of many noisy scores is seen too high: `python -m studies.confirm` "
        "measures by how much, with fresh seeds.",
        "The intervals say what other recordings of the same kind might have given. They do not "
        "cover other seeds, microphones, places or classes: nothing of that was tested.",
        "Neither were clips with several sounds, noise that was added, or inputs made to mislead.",
        "Probabilities were not calibrated on data of their own; the calibration error above says "
        "how far they are off on these clips.",
    ]
    if facts.data.searched.group is None:
        lines.append("Recordings are not known: intervals take every clip for a recording.")
    return "\n".join(f"- {line}" for line in lines)


def _provenance(facts: Facts) -> str:
    where, header = facts.provenance, facts.model.packed.header
    rows = {
        "qwave": where.qwave_version,
        "git commit": where.git_commit or "not known",
        "date": where.date,
        "system": where.system,
        "sweep": f"{facts.search.name}, digest `{facts.search.sweep_digest}`",
        "trial": f"{facts.point.number}, MLflow run `{facts.point.mlflow_run_id}`",
        "configuration digest": f"`{facts.point.digest}`",
        "data digest": f"`{header.data_digest}`, searched `{facts.search.data_digest}`",
        "seeds": f"`seed` {facts.config.seed}, with the configuration digest; MC-dropout "
        f"{header.mc_seed}",
    }
    settings = "\n".join(f"{key}={value}" for key, value in facts.config.flat().items())
    return f"{_table(('', ''), rows.items())}\n\n```\n{settings}\n```"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; what would end a cell or a row is written so that it does not."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
