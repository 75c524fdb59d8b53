"""Every strategy on real scans after a change of the scanner's image chain.

    python tests/benchmarks/strategies/repairs.py

For some random splits of the sample: a first version is trained on scans from before the change,
the scanner's software changes as `api/demo/acquisition.py` has it, and each strategy makes a
candidate, by the training subprocess that a run uses, on what a run would have. It is judged on
600 new scans from after the change and on 486 of the reference, none of which took part, by the
graph of the bundle that would be promoted. What was measured is kept line by line in
`results/repairs.jsonl`.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from monitor.statistics.performance.discrimination import auc  # noqa: E402
from registry.bundles.assembly import assemble_bundle  # noqa: E402
from registry.bundles.bundle import Bundle, read_bundle  # noqa: E402
from registry.bundles.heads import Task, TaskKind, read_head_state  # noqa: E402
from retrain import workspace  # noqa: E402
from retrain.change_plan import Strategy  # noqa: E402
from retrain.workspace import Attempt, TrainingJob  # noqa: E402

TASK, CLASSES = "pneumonia", ("normal", "pneumonia")
THREADS = 2
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
    """What a model's first version starts from, and how each is trained."""

    first: Attempt
    repairs: Mapping[str, Attempt]


_RECALIBRATION = replace(_PLAIN, strategy=Strategy.RECALIBRATION)
_PROBE = replace(_PLAIN, strategy=Strategy.LINEAR_PROBE)
ENCODERS = {
    # As the demo has it: only the last layers of pretrained weights learn at first.
    "MobileNetV2": Encoder(
        first=_PLAIN,
        repairs={
            "recalibration": _RECALIBRATION,
            "linear probe": _PROBE,
            "self-supervised adaptation": replace(
                _PLAIN,
                strategy=Strategy.SELF_SUPERVISED,
                frozen_share=0.0,
                adaptation_epochs=10,
            ),
            "full fine-tuning": replace(_PLAIN, frozen_share=0.4, epochs=6),
            "full fine-tuning, layer decay .8": replace(
                _PLAIN, frozen_share=0.0, epochs=6, layer_decay=0.8
            ),
        },
    ),
    # No weights of a transformer ship: it learns everything from the scans before the change.
    "ViT, 4 layers": Encoder(
        first=replace(_PLAIN, frozen_share=0.0, epochs=40, encoder_rate=1e-3),
        repairs={
            "recalibration": _RECALIBRATION,
            "linear probe": _PROBE,
            "LoRA": replace(
                _PLAIN, strategy=Strategy.LORA, epochs=20, encoder_rate=3e-3, lora_rank=8
            ),
            "self-supervised adaptation": replace(
                _PLAIN,
                strategy=Strategy.SELF_SUPERVISED,
                frozen_share=0.0,
                adaptation_epochs=10,
            ),
            "full fine-tuning": replace(_PLAIN, frozen_share=0.0, epochs=20, layer_decay=0.9),
        },
    ),
}


def trained(folder: Path, base: Bundle, part: Part, attempt: Attempt, *, seed: int) -> Bundle:
    """Return the candidate that the training subprocess makes of a base."""
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
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    subprocess.run(
        [sys.executable, "-m", "retrain.trainer", folder], check=True, env=environment
    )
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


def judged(bundle: Bundle, part: Part) -> dict[str, float]:
    """Return AUC, sensitivity and specificity of a bundle's graph on scans with labels."""
    encoded = load_encoder(bundle, device="cpu", threads=THREADS).embed(part.pixels)
    chances = encoded.probabilities[TASK]
    called, truth = bundle.task(TASK).calls(chances), part.targets == 1
    return {
        "auc": auc(chances[:, 1], part.targets),
        "sensitivity": float(np.mean(called[truth])),
        "specificity": float(np.mean(~called[~truth])),
    }


def first_version(encoder: str, seed: int) -> Bundle:
    """Return the model's first version, made once."""
    folder = CACHE / f"{encoder.split(',', maxsplit=1)[0]}-{seed}"
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
                Deal(seed).first_version(),
                ENCODERS[encoder].first,
                seed=seed,
            )
            folder.mkdir(parents=True, exist_ok=True)
            bundle.root.rename(folder / "bundle")
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
            patch_size=8,
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


def keys(change: str) -> list[str]:
    """Return every measurement of a change: encoder, split and strategy."""
    return [
        f"{change}/{encoder}/{seed}/{name}"
        for encoder, trains in ENCODERS.items()
        for seed in range(SPLITS)
        for name in trains.repairs
        if change == "update" or name == "recalibration"
    ]


def measured(key: str) -> dict[str, Any]:
    """Measure one strategy on one split."""
    change, encoder, split, name = key.split("/")
    seed, software = int(split), CHANGES[change]
    base, deal = first_version(encoder, seed), Deal(seed)
    attempt = ENCODERS[encoder].repairs[name]
    unlabelled = attempt.strategy is Strategy.SELF_SUPERVISED
    part = deal.unlabelled(software) if unlabelled else deal.repair(software)
    new, reference = (
        deal.part("shift locked", software),
        deal.part("locked reference", OLD_SOFTWARE),
    )
    with tempfile.TemporaryDirectory() as folder:
        before = _seconds_of_children()
        made = trained(Path(folder) / "run", base, part, attempt, seed=seed)
        facts = workspace.read_result(Path(folder) / "run")
        return {
            "seconds": round(facts["seconds"], 1),
            "processor_seconds": round(_seconds_of_children() - before, 1),
            "same_space": made.space == base.space,
            "parity": made.parity.error,
            "as_before": judged(base, replace(new, pixels=_unchanged(deal))),
            "before": {"new": judged(base, new), "reference": judged(base, reference)},
            "after": {"new": judged(made, new), "reference": judged(made, reference)},
        }


def _seconds_of_children() -> float:
    """Return what processes that ended have computed: unlike a clock, blind to other programs."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _unchanged(deal: Deal) -> npt.NDArray[np.float32]:
    return deal.part("shift locked", OLD_SOFTWARE).pixels


def tables(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what was measured, as Markdown."""
    lines = [
        f"Mean over random splits of the sample ({SPLITS} are planned; least and greatest in "
        "brackets), each judged on 600 new scans and on 486 of the reference that took part in "
        "nothing.",
    ]
    for change, title in (
        ("update", "A software update: noise, edges and tone curve"),
        ("tone curve", "A tone curve alone: the operating point moves, the AUC hardly"),
    ):
        lines += [
            "",
            f"**{title}**",
            "",
            "| encoder | strategy | splits | AUC before the change | after it | repaired | of the "
            "loss given back | sensitivity / specificity after it | repaired | on the reference: "
            "AUC first version → repaired | seconds |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
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
    return "\n".join(lines) + "\n"


def _row(encoder: str, name: str, found: Sequence[Mapping[str, Any]]) -> str:
    def mean(of: Callable[[Mapping[str, Any]], float]) -> float:
        return float(np.mean([of(one) for one in found]))

    def span(of: Callable[[Mapping[str, Any]], float], digits: int = 3) -> str:
        values = [of(one) for one in found]
        return (
            f"{np.mean(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
        )

    lost = mean(lambda one: one["as_before"]["auc"] - one["before"]["new"]["auc"])
    gained = mean(lambda one: one["after"]["new"]["auc"] - one["before"]["new"]["auc"])
    given_back = f"{100 * gained / lost:.0f} %" if lost > MARGIN else "–"
    points = [
        f"{mean(lambda one, w=when: one[w]['new']['sensitivity']):.2f} / "
        f"{mean(lambda one, w=when: one[w]['new']['specificity']):.2f}"
        for when in ("before", "after")
    ]
    cells = [
        encoder,
        name,
        str(len(found)),
        span(lambda one: one["as_before"]["auc"]),
        span(lambda one: one["before"]["new"]["auc"]),
        span(lambda one: one["after"]["new"]["auc"]),
        given_back,
        *points,
        f"{mean(lambda one: one['before']['reference']['auc']):.3f} → "
        f"{span(lambda one: one['after']['reference']['auc'])}",
        f"{mean(lambda one: one['seconds']):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    results = Results("repairs", folder=HERE / "results")
    wanted = sys.argv[1:]
    for change in CHANGES:
        results.measure(
            (key for key in keys(change) if all(word in key for word in wanted)), measured
        )
    sys.stdout.write(tables({row["key"]: row for row in results.rows()}))
