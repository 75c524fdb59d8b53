"""Every strategy on real scans after a change of the scanner's image chain.

    python tests/benchmarks/strategies/repairs.py [WORD ...]

For some random splits of the sample: a first version is trained on scans from before a change,
`sample_scans.CHANGES` says what changes, and each strategy makes a candidate as the training
subprocess does, on what a run would have. It is judged on 600 new scans from after the change and
on 486 of the reference, none of which took part, by the graph of the bundle that would be promoted.
Settings of the transformer were chosen on children who are in no locked set here, as `tuning.py`
does it.
What the product's decision would let a run try is found from labels of the change that are in no
locked set: of 240 scans, and of more where a tone curve alone changed, which `tones.py` chose. Words
choose the measurements whose key has them all. What was measured is kept line by line in
`results/repairs.jsonl`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent / "drift"), str(HERE)]

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from results import Results  # noqa: E402
from sample_scans import CHANGES, COUNTS, SPLITS, TONES, Deal, Part  # noqa: E402

from api.demo.acquisition import OLD_SOFTWARE  # noqa: E402
from api.demo.foundation import general_bundle  # noqa: E402
from monitor.embedding.encoders import load_encoder  # noqa: E402
from monitor.performance.falls import falls  # noqa: E402
from monitor.performance.performance import LabelledResults, measure  # noqa: E402
from monitor.statistics.performance.discrimination import auc  # noqa: E402
from registry.bundles.assembly import assemble_bundle  # noqa: E402
from registry.bundles.bundle import Bundle, read_bundle  # noqa: E402
from registry.bundles.heads import Task, TaskKind, read_head_state  # noqa: E402
from registry.errors import TrainingFailedError  # noqa: E402
from retrain import workspace  # noqa: E402
from retrain.change_plan import LoraLayers, Strategy  # noqa: E402
from retrain.decisions import serving  # noqa: E402
from retrain.trainer import main as train  # noqa: E402
from retrain.workspace import Attempt, TrainingJob  # noqa: E402

TASK, CLASSES = "pneumonia", ("normal", "pneumonia")
THREADS = int(os.environ.get("STRATEGY_THREADS", "2"))
#: Kept between programs of this benchmark; it can be deleted at any time.
CACHE = Path(os.environ.get("STRATEGY_CACHE", Path(tempfile.gettempdir()) / "strategies"))
#: The margin that a candidate may lose on the reference, in AUC.
MARGIN = 0.03
#: What changes, by its name in `CHANGES`.
TITLES = {
    "update": "The demo's software update: noise, edges and tone curve",
    "unprocessed": (
        "The scanner sends its images for processing: linear in exposure, dense tissue dark"
    ),
    "steeper tone curve": (
        "A steeper tone curve alone: a sigmoid of slope 6, as the update's is, and nothing else"
    ),
    "flatter tone curve": (
        "A flatter tone curve alone: black is shown as a gray of .15, and white as one of .85"
    ),
    "flattest tone curve": (
        "The flattest tone curve alone: black is shown as a gray of .2, and white as one of .8"
    ),
    "tone curve": "A stronger tone curve alone: gray values to the power of .6",
}

_PLAIN = Attempt(
    strategy=Strategy.FULL,
    epochs=8,
    batch_size=32,
    encoder_rate=3e-4,
    head_rate=1e-3,
    weight_decay=1e-4,
    frozen_share=0.98,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """What a model's first version starts from, what then changes, and how each is trained."""

    first: Attempt
    #: what harms it; changes of the tone curve alone are measured besides
    change: str
    repairs: Mapping[str, Attempt]


_RECALIBRATION = replace(_PLAIN, strategy=Strategy.RECALIBRATION)
_PROBE = replace(_PLAIN, strategy=Strategy.LINEAR_PROBE)
_ADAPTATION = replace(
    _PLAIN, strategy=Strategy.SELF_SUPERVISED, frozen_share=0.0, adaptation_epochs=10
)
ENCODERS = {
    # As the demo has it: only the last layers of pretrained weights learn at first.
    "MobileNetV2": Encoder(
        first=_PLAIN,
        change="update",
        repairs={
            "recalibration": _RECALIBRATION,
            "linear probe": _PROBE,
            # It has no attention: what the training says of that is measured, too.
            "LoRA": replace(_PLAIN, strategy=Strategy.LORA),
            "self-supervised adaptation": _ADAPTATION,
            "full fine-tuning": replace(_PLAIN, frozen_share=0.4, epochs=6),
            "full fine-tuning, layer decay .8": replace(
                _PLAIN, frozen_share=0.0, epochs=6, layer_decay=0.8
            ),
        },
    ),
    # No weights of a transformer ship: it learns everything from the scans before the change.
    "ViT, 4 layers": Encoder(
        first=replace(_PLAIN, frozen_share=0.0, epochs=25, encoder_rate=1e-3),
        change="unprocessed",
        repairs={
            "recalibration": _RECALIBRATION,
            "linear probe": _PROBE,
            "LoRA": replace(
                _PLAIN,
                strategy=Strategy.LORA,
                epochs=20,
                encoder_rate=3e-3,
                lora_rank=16,
                lora_alpha=32.0,
                lora_layers=LoraLayers.ALL,
            ),
            "self-supervised adaptation": _ADAPTATION,
            "full fine-tuning": replace(
                _PLAIN, frozen_share=0.0, epochs=20, encoder_rate=1e-3, layer_decay=0.9
            ),
        },
    ),
}


def trained(folder: Path, base: Bundle, part: Part, attempt: Attempt, *, seed: int) -> Bundle:
    """Return the candidate that training makes of a base, as its subprocess would."""
    folder.mkdir(parents=True)
    workspace.write_data(
        folder,
        pixels=part.pixels,
        targets=part.targets,
        roles=part.roles,
        shifted=part.shifted,
    )
    workspace.write_job(
        folder,
        TrainingJob(
            base=str(base.root),
            task=TASK,
            classes=CLASSES,
            attempts=(attempt,),
            seed=seed,
            threads=THREADS,
        ),
    )
    train(folder)
    facts = workspace.read_result(folder)
    made = workspace.attempt_folder(folder, 0)
    task = Task(
        name=TASK,
        kind=TaskKind.MULTI_CLASS,
        classes=CLASSES,
        positive=CLASSES[-1],
        threshold=facts["threshold"],
        temperature=facts["temperature"],
    )
    encoder = made / workspace.ENCODER
    return assemble_bundle(
        encoder if encoder.exists() else base.encoder_path,
        base.card,
        base.preprocessing,
        (task,),
        read_head_state(made / workspace.HEADS, (task,), dimension=base.dimension),
        out_dir=folder / "bundle",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a bundle's graph says of scans with labels."""

    scores: npt.NDArray[np.float64]  #: probability of the finding, [n]
    called: npt.NDArray[np.bool_]  #: [n]
    truth: npt.NDArray[np.bool_]  #: [n]
    threshold: float

    @classmethod
    def of(cls, bundle: Bundle, part: Part) -> Reading:
        encoded = load_encoder(bundle, device="cpu", threads=THREADS).embed(part.pixels)
        chances, task = encoded.probabilities[TASK], bundle.task(TASK)
        return cls(
            scores=chances[:, 1].astype(np.float64),
            called=task.calls(chances),
            truth=part.targets == 1,
            threshold=task.threshold or 0.5,
        )

    def first(self, count: int) -> Reading:
        """Return the reading of the first scans alone."""
        return replace(
            self,
            scores=self.scores[:count],
            called=self.called[:count],
            truth=self.truth[:count],
        )

    def figures(self) -> dict[str, float]:
        return {
            "auc": auc(self.scores, self.truth.astype(np.int64)),
            "sensitivity": float(np.mean(self.called[self.truth])),
            "specificity": float(np.mean(~self.called[~self.truth])),
        }

    def results(self) -> LabelledResults:
        return LabelledResults(
            scores=self.scores,
            truth=self.truth,
            patients=tuple(str(number) for number in range(len(self.truth))),
            scans=(),
            threshold=self.threshold,
            ai_influenced=0,
        )


def judged(bundle: Bundle, part: Part) -> dict[str, float]:
    """Return AUC, sensitivity and specificity of a bundle's graph on scans with labels."""
    return Reading.of(bundle, part).figures()


@cache
def before_repair(encoder: str, seed: int, change: str) -> dict[str, Any]:
    """Return what a change does to a first version, and what that lets a run try."""
    base, deal = first_version(encoder, seed), Deal(seed)
    old, new = OLD_SOFTWARE, CHANGES[change]
    reference = Reading.of(base, deal.part("locked reference", old))
    measured_on = Part.joined(
        *(deal.part(n, old) for n in ("locked reference", "more reference"))
    )
    return {
        "as_before": judged(base, deal.part("shift locked", old)),
        "before": {
            "new": judged(base, deal.part("shift locked", new)),
            "reference": reference.figures(),
        },
        **first_decision(Reading.of(base, measured_on), base, deal, change),
    }


def first_decision(reference: Reading, base: Bundle, deal: Deal, change: str) -> dict[str, Any]:
    """Return what the decision lets a run try, and of how many labels it says so.

    A moved operating point shows in the scans of one class alone, so that a change of the tone
    curve is asked about again as more labels come.
    """
    names = ("shift training", "shift later") if change in TONES else ("shift training",)
    labelled = Reading.of(base, Part.joined(*(deal.part(n, CHANGES[change]) for n in names)))
    count = COUNTS["shift training"]
    tried = decision(reference, labelled.first(count))
    while not tried and count < len(labelled.truth):
        count = min(2 * count, len(labelled.truth))
        tried = decision(reference, labelled.first(count))
    return {"decision": tried, "labels": count}


def decision(reference: Reading, labelled: Reading) -> list[str]:
    """Return the strategies that the product lets a run try; none where no fall is shown.

    Parameters
    ----------
    labelled : scans of the change with labels, as a run would have them
    """
    before, results = measure(reference.results()), labelled.results()
    known_at = [datetime(2026, 1, 1, tzinfo=UTC)] * len(labelled.truth)
    fell = falls(before, results, known_at=known_at)
    if not fell:
        return []
    evidence = {
        "before": before.to_dict(),
        "after": measure(results).to_dict(),
        "falls": [fall.to_dict() for fall in fell],
    }
    return [strategy.value for strategy in serving(tuple(Strategy), evidence)]


@cache
def first_version(encoder: str, seed: int, *, tuning: bool = False) -> Bundle:
    """Return the model's first version, made once."""
    name = f"{encoder.split(',', maxsplit=1)[0]}-{seed}{'-tuning' if tuning else ''}"
    folder = CACHE / name
    if not (folder / "bundle").exists():
        with tempfile.TemporaryDirectory() as made:
            base = (
                general_bundle(Path(made) / "base")
                if encoder == "MobileNetV2"
                else random_transformer(Path(made), seed=seed)
            )
            bundle = trained(
                Path(made) / "first",
                base,
                Deal(seed, tuning=tuning).first_version(),
                ENCODERS[encoder].first,
                seed=seed,
            )
            folder.mkdir(parents=True, exist_ok=True)
            shutil.move(bundle.root, folder / "bundle")
    return read_bundle(folder / "bundle")


def random_transformer(folder: Path, *, seed: int) -> Bundle:
    """Return a small vision transformer with random weights, as a bundle."""
    import torch
    import transformers

    torch.manual_seed(seed)
    model = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=96,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=192,
            image_size=64,
            # Seven pixels of the source, as 14 and 16 are of 224: fine enough, and fast.
            patch_size=16,
        ),
        add_pooling_layer=False,
    )
    model.save_pretrained(folder / "vit")
    general = general_bundle(folder / "general")
    return assemble_bundle(
        folder / "vit",
        replace(general.card, name="random-vit"),
        general.preprocessing,
        (),
        {},
        out_dir=folder / "base",
    )


def keys() -> list[str]:
    """Return every measurement: change, encoder, split and strategy, one split after another."""
    return [
        f"{change}/{encoder}/{seed}/{name}"
        for seed in range(SPLITS)
        for encoder, trains in ENCODERS.items()
        for change, names in (
            (trains.change, list(trains.repairs)),
            *((tone, ["recalibration"]) for tone in TONES),
        )
        for name in names
    ]


def measured(key: str) -> dict[str, Any]:
    """Measure one strategy on one split."""
    change, encoder, split, name = key.split("/")
    seed, software = int(split), CHANGES[change]
    base, deal = first_version(encoder, seed), Deal(seed)
    attempt = ENCODERS[encoder].repairs[name]
    unlabelled = attempt.strategy is Strategy.SELF_SUPERVISED
    part = deal.unlabelled(software) if unlabelled else deal.repair(software)
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        try:
            made = trained(Path(folder) / "run", base, part, attempt, seed=seed)
        except TrainingFailedError as error:
            return {"refused": str(error), **before_repair(encoder, seed, change)}
        spent = time.process_time() - started
        return {
            "seconds": round(workspace.read_result(Path(folder) / "run")["seconds"], 1),
            "processor_seconds": round(spent, 1),
            "same_space": made.space == base.space,
            "parity": made.parity.error,
            **before_repair(encoder, seed, change),
            "after": {
                "new": judged(made, deal.part("shift locked", software)),
                "reference": judged(made, deal.part("locked reference", OLD_SOFTWARE)),
            },
        }


def tables(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what was measured, as Markdown."""
    lines = [
        "Mean over random splits of the sample (least and greatest in brackets), each judged on "
        "600 new scans and on 486 of the reference that took part in nothing. *Given back* is of "
        "the AUC that the change took, over all splits and in the worst. Seconds are of "
        "processors, and include the making of the bundle. Where a strategy refused a split, "
        "figures are of the others.",
    ]
    for change, title in TITLES.items():
        lines += [
            "",
            f"**{title}**",
            "",
            "| encoder | strategy | splits | AUC before the change | after it | repaired | given "
            "back | sensitivity / specificity before the change | after it | repaired | on the "
            "reference: AUC first version → repaired | most lost there | seconds | the "
            "decision would try |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for encoder, trains in ENCODERS.items():
            for name in trains.repairs:
                found = [
                    rows[key]
                    for key in (f"{change}/{encoder}/{seed}/{name}" for seed in range(SPLITS))
                    if key in rows
                ]
                if found:
                    lines.append(_row(encoder, name, found))
        lines += _refusals(change, rows)
    return "\n".join(lines) + "\n"


def _refusals(change: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return why strategies refused splits of a change, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for encoder, trains in ENCODERS.items():
        for seed in range(SPLITS):
            for name in trains.repairs:
                row = rows.get(f"{change}/{encoder}/{seed}/{name}", {})
                if "refused" in row:
                    where = f"{encoder}, {name}, split {seed}"
                    reasons.setdefault(row["refused"], []).append(where)
    told = [f"Refused ({'; '.join(where)}): *{reason}*" for reason, where in reasons.items()]
    return [part for one in told for part in ("", one)]


def _row(encoder: str, name: str, found: Sequence[Mapping[str, Any]]) -> str:
    made = [row for row in found if "refused" not in row]
    shown = made or found

    def mean(of: Callable[[Mapping[str, Any]], float]) -> float:
        return float(np.mean([of(one) for one in shown]))

    def span(of: Callable[[Mapping[str, Any]], float], digits: int = 3) -> str:
        values = [of(one) for one in shown]
        return (
            f"{np.mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
        )

    def point(of: Callable[[Mapping[str, Any]], Mapping[str, float]]) -> str:
        return " / ".join(
            f"{mean(lambda one, m=measure: of(one)[m]):.2f}"
            for measure in ("sensitivity", "specificity")
        )

    refused = len(found) - len(made)
    reference = f"{mean(lambda one: one['before']['reference']['auc']):.3f} → "
    lost = max((_lost_on_reference(one) for one in made), default=0.0)
    cells = [
        encoder,
        name,
        f"{len(made)}, {refused} refused" if refused else str(len(made)),
        span(lambda one: one["as_before"]["auc"]),
        span(lambda one: one["before"]["new"]["auc"]),
        span(lambda one: one["after"]["new"]["auc"]) if made else "–",
        _given_back(made),
        point(lambda one: one["as_before"]),
        point(lambda one: one["before"]["new"]),
        point(lambda one: one["after"]["new"]) if made else "–",
        f"{reference}{span(lambda one: one['after']['reference']['auc'])}" if made else "–",
        f"{max(lost, 0.0):.3f}" if made else "–",
        f"{mean(_processor_seconds):.0f}" if made else "–",
        _tried(shown),
    ]
    return f"| {' | '.join(cells)} |"


def _tried(shown: Sequence[Mapping[str, Any]]) -> str:
    """Return what the decision would try, how often, and of how many labels."""
    found: dict[str, list[int]] = {}
    for one in shown:
        if "decision" in one:
            what = ", ".join(one["decision"]) or "nothing: no fall shown"
            found.setdefault(what, []).append(one.get("labels", COUNTS["shift training"]))
    return (
        "; ".join(
            f"{len(labels)} × {what} (of {', '.join(map(str, sorted(set(labels))))} labels)"
            for what, labels in found.items()
        )
        or "–"
    )


def _given_back(made: Sequence[Mapping[str, Any]]) -> str:
    """Return how much of the lost AUC came back; nothing where too little was lost to say so."""
    lost = [one["as_before"]["auc"] - one["before"]["new"]["auc"] for one in made]
    if not lost or min(lost) <= MARGIN:
        return "–"
    gained = [one["after"]["new"]["auc"] - one["before"]["new"]["auc"] for one in made]
    worst = min(gain / loss for gain, loss in zip(gained, lost, strict=True))
    return f"{sum(gained) / sum(lost):.0%} (least {worst:.0%})"


def _lost_on_reference(row: Mapping[str, Any]) -> float:
    lost: float = row["before"]["reference"]["auc"] - row["after"]["reference"]["auc"]
    return lost


def _processor_seconds(row: Mapping[str, Any]) -> float:
    # Rows from before the processors' time was kept: two threads, by the clock.
    return float(row.get("processor_seconds", 2 * row["seconds"]))


if __name__ == "__main__":
    results = Results("repairs", folder=HERE / "results")
    wanted = sys.argv[1:]
    results.measure((key for key in keys() if all(word in key for word in wanted)), measured)
    sys.stdout.write(tables({row["key"]: row for row in results.rows()}))
