"""The model card: what a model is, how it was measured, and what is not known about it.

The headings follow Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv 1810.03993),
and the cards of Hugging Face. Every section is a function from `Facts` to Markdown.
"""

from __future__ import annotations

import numpy as np

from qwave.exporting import card_evaluation
from qwave.exporting.calibration import CALIBRATED_TOLERANCE
from qwave.exporting.card_evaluation import percent
from qwave.exporting.facts import Facts
from qwave.exporting.record import source_of
from qwave.exporting.verify import TOLERANCE, Agreement
from qwave.packing import packed_size_parts
from qwave.text import (
    for_markdown,
    for_terminal,
    markdown_code,
    markdown_code_block,
    markdown_table,
)


def model_card(facts: Facts) -> str:
    """The card, in Markdown."""
    sections = {
        "Model details": _details,
        "Use": _use,
        "Training data": _training_data,
        "Evaluation": card_evaluation.evaluation,
        "Calibration": card_evaluation.calibration,
        "Size and speed": _size_and_speed,
        "Routing and curiosity": _routing,
        "Agreement": _agreement,
        "Caveats": _caveats,
        "Provenance": _provenance,
    }
    point = facts.point
    title = (
        f"# {for_markdown(facts.search.name)}, trial {point.number}: {for_markdown(point.label)}"
    )
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
        "encoder": markdown_code(header.encoder) if header.encoder else "not known",
        "output": f"probabilities of {len(header.class_names)} classes: "
        + ", ".join(map(for_markdown, header.class_names)),
        "training": f"{train.mode}, {train.epochs} epochs, batches of {train.batch_size}, "
        f"learning rate {train.learning_rate:.4g}, distillation {train.distillation:g}",
    }
    return markdown_table(("", ""), rows.items())


def _use(facts: Facts) -> str:
    header = facts.model.packed.header
    width, encoder = header.in_features, header.encoder
    source = source_of(facts.config.data.path, encoder)
    command = "```bash\nqwave predict model.qwave CLIP.wav\n```\n\n" if encoder else ""
    return (
        f"{command}```python\nimport qwave\n\n"
        'model = qwave.load_packed("model.qwave")\n'
        f"labels = model.predict(x)  # x: embeddings, float32 [clips, {width}]\n```\n\n"
        f"{source.embedding} Embeddings of another kind are accepted if they have as many "
        "features, but the answers then mean nothing. There is no class for other sounds: every "
        "clip gets one of the classes above."
    )


def _training_data(facts: Facts) -> str:
    full, rows = facts.data.full, _training_rows(facts)
    recordings = "not known" if full.group is None else str(len(np.unique(full.group[rows])))
    values = {
        "data": f"{markdown_code(facts.config.data.path)}, digest `{full.digest}`",
        "clips": str(len(rows)),
        "classes": str(full.num_classes),
        "recordings": recordings,
        "licence": source_of(facts.config.data.path, full.encoder).licence,
    }
    return f"{_rows_text(facts)}\n\n{markdown_table(('', ''), values.items())}"


def _training_rows(facts: Facts) -> np.ndarray:
    """Rows that trained the model: of the file, or of the search for a model of the first fold."""
    if facts.is_refitted:
        return np.arange(len(facts.data.full.y))
    return np.flatnonzero(facts.out_of_fold.fold != 0)


def _rows_text(facts: Facts) -> str:
    data, held_out = facts.data, facts.config.data.holdout_fold
    n_full, n_searched = len(data.full.y), len(data.searched.y)
    if not facts.is_refitted:
        n_unseen = int((facts.out_of_fold.fold == 0).sum())
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


def _size_and_speed(facts: Facts) -> str:
    parts = packed_size_parts(facts.config, facts.data.full)
    share = (facts.seen.gates > 0).mean(axis=0)
    active = sum(share[expert] * parts[f"expert_{expert}"] for expert in range(len(share)))
    active += parts.get("router", 0) + parts.get("normalization", 0)
    sizes = [(name.replace("_", " "), str(size)) for name, size in parts.items()]
    times = [(str(batch), f"{us:.3g}") for batch, us in facts.latency_us.items()]
    return "\n\n".join(
        [
            markdown_table(("part", "bytes"), [*sizes, ("all", str(sum(parts.values())))]),
            f"One prediction reads {active:.0f} bytes on average.",
            markdown_table(("clips at once", "microseconds, median"), times),
            f"Embeddings to probabilities with `qwave.load_packed`, one thread of "
            f"{facts.provenance.processor}; other devices are faster or slower.",
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
        (f"{expert}: {scheme}", percent(gates.mean()), percent((gates > 0).mean()))
        for expert, (scheme, gates) in enumerate(zip(model.schemes, seen.gates.T, strict=True))
    ]
    tilt = (
        f"It tilts uncertain clips toward experts with more bits: alpha {model.curiosity.alpha:g}."
        if model.curiosity.alpha > 0
        else "It does not change the routes: alpha 0."
    )
    return "\n\n".join(
        [
            markdown_table(("expert", "weight", "clips sent to it"), load),
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
    lines.append(
        "- after the calibration, with the predictions before it at the same temperature: "
        f"{_difference(facts.calibrated_agreement)}, {CALIBRATED_TOLERANCE:g} allowed (the file "
        "rounds to float16)"
    )
    if facts.onnx_agreement is not None:
        lines.append(
            "- of `model.onnx`, run in onnxruntime, with `model.qwave`: "
            f"{_difference(facts.onnx_agreement)}"
        )
    return "The file was read back and its predictions compared:\n\n" + "\n".join(lines)


def _difference(agreement: Agreement) -> str:
    return (
        f"{agreement.n_clips} clips, largest difference of a probability "
        f"{agreement.largest_difference:.1e}, {agreement.n_other_class} with another class"
    )


def _caveats(facts: Facts) -> str:
    standing = "on" if facts.point.is_front else "not on"
    lines = [
        f"{facts.search.n_trained} configurations were trained, and this one is {standing} their "
        "front. The best of many noisy scores is too high: `python -m studies.confirm` "
        "measures by how much, with fresh seeds.",
        "The intervals say what other recordings of the same kind might have given. They do not "
        "cover other seeds, microphones, places or classes, none of which was tested.",
        "Clips with several sounds, added noise and misleading inputs were not tested either.",
        "Temperature and threshold were fitted on predictions of the folds' models, not of this "
        "one, and on no data of their own: on other recordings probabilities may be further off, "
        "and more or fewer answers unsure.",
    ]
    if facts.data.searched.group is None:
        lines.append("Recordings are not known: intervals take every clip for a recording.")
    lines += [
        f"Note from the start of the search: {' '.join(n.split())}" for n in facts.search.notes
    ]
    return "\n".join(f"- {line}" for line in lines)


def _provenance(facts: Facts) -> str:
    where, header = facts.provenance, facts.model.packed.header
    rows = {
        "qwave": where.qwave_version,
        "git commit": where.git_commit or "not known",
        "date": where.date,
        "system": where.system,
        "sweep": f"{for_markdown(facts.search.name)}, digest `{facts.search.sweep_digest}`",
        "trial": f"{facts.point.number}, MLflow run `{facts.point.mlflow_run_id}`",
        "configuration digest": f"`{facts.point.digest}`",
        "data digest": f"`{header.data_digest}`, searched `{facts.search.data_digest}`",
        "seeds": f"`seed` {facts.config.seed}, with the configuration digest; MC-dropout "
        f"{header.mc_seed}",
    }
    settings = [for_terminal(f"{key}={value}") for key, value in facts.config.flat().items()]
    return "\n\n".join([markdown_table(("", ""), rows.items()), markdown_code_block(settings)])
