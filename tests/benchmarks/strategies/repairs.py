"""Every strategy on real scans after a change of the scanner's image chain.

    python tests/benchmarks/strategies/repairs.py [WORD ...]

For some random splits of the sample: a first version is trained on scans from before a change,
`sample_scans.CHANGES` says what changes, and each strategy makes a candidate as the training
subprocess does, on what a run would have. It is judged on 600 new scans from after the change and
on 486 of the reference, none of which took part, by the graph of the bundle that would be promoted.
Settings of the transformer were chosen on children who are in no locked set here, as `tuning.py`
does it.
What the product's decision would let a run try is found from the 300 labels of the run alone. Words
choose the measurements whose key has them all. What was measured is kept line by line in
`results/repairs.jsonl`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
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
from sample_scans import CHANGES, SPLITS, Deal, Part  # noqa: E402

from api.demo.acquisition import OLD_SOFTWARE  # noqa: E402
from api.demo.foundation import general_bundle  # noqa: E402
from monitor.encoders import load_encoder  # noqa: E402
from monitor.falls import falls  # noqa: E402
from monitor.performance import LabelledResults, measure  # noqa: E402
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
    #: what harms it; a tone curve alone is measured besides
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
    return {
        "as_before": judged(base, deal.part("shift locked", old)),
        "before": {
            "new": judged(base, deal.part("shift locked", new)),
            "reference": reference.figures(),
        },
        "decision": decision(reference, Reading.of(base, deal.part("shift training", new))),
    }


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
            ("tone curve", ["recalibration"]),
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
    for change, title in (
        ("update", "The demo's software update: noise, edges and tone curve"),
        (
            "unprocessed",
            "The scanner sends its images for processing: linear in exposure, dense tissue dark",
        ),
        ("tone curve", "A tone curve alone (gray values to the power of .6)"),
    ):
        lines += [
            "",
            f"**{title}**",
            "",
            "| encoder | strategy | splits | AUC before the change | after it | repaired | given "
            "back | sensitivity / specificity before the change | after it | repaired | on the "
            "reference: AUC first version → repaired | seconds | the decision would try |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for encoder, trains in ENCODERS.items():
            for name in trains.repairs:
                found = [
                    rows[key]
                    for key in (f"{change}/{encoder}/{seed}/{name}" for seed in range(SPLITS))
                    if key in rows
                ]
                made = [row for row in found if "refused" not in row]
                if made:
                    lines.append(_row(encoder, name, made, refused=len(found) - len(made)))
    return "\n".join(lines) + "\n"


def _row(encoder: str, name: str, found: Sequence[Mapping[str, Any]], *, refused: int) -> str:
    def mean(of: Callable[[Mapping[str, Any]], float]) -> float:
        return float(np.mean([of(one) for one in found]))

    def span(of: Callable[[Mapping[str, Any]], float], digits: int = 3) -> str:
        values = [of(one) for one in found]
        return (
            f"{np.mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
        )

    def point(of: Callable[[Mapping[str, Any]], Mapping[str, float]]) -> str:
        return " / ".join(
            f"{mean(lambda one, m=measure: of(one)[m]):.2f}"
            for measure in ("sensitivity", "specificity")
        )

    def seconds(one: Mapping[str, Any]) -> float:
        # Rows from before the processors' time was kept: two threads, by the clock.
        return float(one.get("processor_seconds", 2 * one["seconds"]))

    lost = [one["as_before"]["auc"] - one["before"]["new"]["auc"] for one in found]
    gained = [one["after"]["new"]["auc"] - one["before"]["new"]["auc"] for one in found]
    given_back = "–"
    if min(lost) > MARGIN:
        worst = min(gain / loss for gain, loss in zip(gained, lost, strict=True))
        given_back = f"{sum(gained) / sum(lost):.0%} (least {worst:.0%})"
    tried = Counter(
        ", ".join(one["decision"]) or "nothing: no fall shown"
        for one in found
        if "decision" in one
    )
    cells = [
        encoder,
        name,
        str(len(found)) + (f", {refused} refused" if refused else ""),
        span(lambda one: one["as_before"]["auc"]),
        span(lambda one: one["before"]["new"]["auc"]),
        span(lambda one: one["after"]["new"]["auc"]),
        given_back,
        point(lambda one: one["as_before"]),
        point(lambda one: one["before"]["new"]),
        point(lambda one: one["after"]["new"]),
        f"{mean(lambda one: one['before']['reference']['auc']):.3f} → "
        f"{span(lambda one: one['after']['reference']['auc'])}",
        f"{mean(seconds):.0f}",
        "; ".join(f"{count} ×: {what}" for what, count in tried.most_common()) or "–",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    results = Results("repairs", folder=HERE / "results")
    wanted = sys.argv[1:]
    results.measure((key for key in keys() if all(word in key for word in wanted)), measured)
    sys.stdout.write(tables({row["key"]: row for row in results.rows()}))
