"""Settings of the transformer's LoRA and full fine-tuning, compared where the tables do not look.

    python tests/benchmarks/strategies/tuning.py

A split of those children alone who are in no locked set of the tables (`Deal(seed, tuning=True)`):
a first version, the change that harms the transformer, and each setting judged on scans of the
change and on the reference. `repairs.py` has what came out best. What was measured is kept line by
line in `results/tuning.jsonl`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent / "drift"), str(HERE)]

from repairs import ENCODERS, first_version, judged, trained  # noqa: E402
from results import Results  # noqa: E402
from sample_scans import CHANGES, Deal  # noqa: E402

from api.demo.acquisition import OLD_SOFTWARE  # noqa: E402
from retrain import workspace  # noqa: E402
from retrain.change_plan import LoraLayers  # noqa: E402
from retrain.workspace import Attempt  # noqa: E402

ENCODER, SEED = "ViT, 4 layers", 0


def settings() -> Iterator[tuple[str, Attempt]]:
    """Yield what is compared, by name."""
    repairs = ENCODERS[ENCODER].repairs
    for rate in (3e-4, 1e-3, 3e-3):
        yield f"full, rate {rate:g}", replace(repairs["full fine-tuning"], encoder_rate=rate)
    for layers in LoraLayers:
        for rank, rate in ((8, 3e-3), (16, 1e-3), (16, 3e-3)):
            yield (
                f"LoRA, {layers.value}, rank {rank}, rate {rate:g}",
                replace(
                    repairs["LoRA"],
                    encoder_rate=rate,
                    lora_layers=layers,
                    lora_rank=rank,
                    lora_alpha=2.0 * rank,
                ),
            )


def measured(name: str) -> dict[str, Any]:
    """Judge one setting."""
    base, deal = first_version(ENCODER, SEED, tuning=True), Deal(SEED, tuning=True)
    software = CHANGES[ENCODERS[ENCODER].change]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        made = trained(run, base, deal.repair(software), dict(settings())[name], seed=SEED)
        return {
            "selection_loss": workspace.read_result(run)["selection_loss"],
            "new": judged(made, deal.part("shift locked", software))["auc"],
            "reference": judged(made, deal.part("locked reference", OLD_SOFTWARE))["auc"],
        }


if __name__ == "__main__":
    results = Results("tuning", folder=HERE / "results")
    results.measure((name for name, _ in settings()), measured)
    for row in sorted(results.rows(), key=lambda row: row["selection_loss"]):
        sys.stdout.write(
            f"{row['key']}: selection loss {row['selection_loss']:.3f}, AUC on new scans "
            f"{row['new']:.3f}, on the reference {row['reference']:.3f}\n"
        )
