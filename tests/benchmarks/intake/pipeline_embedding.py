"""Embedding from vault files to committed rows, beside the bare forward pass of the same model.

    python tests/benchmarks/intake/pipeline_embedding.py

The scans are the sample's real radiographs of adults, enlarged and given noise, stored as intake
stores them. Three things are timed in turn, over some rounds: the forward pass of inputs that lie
in memory, as one session on all cores with 32 scans at a time, and as the pipeline runs it, a
session on each core with a few scans at a time; and the whole pipeline: read from the vault and
checked against its digest, decoded, prepared, embedded, and committed with its ledger entry.
What was measured is kept line by line in `results/pipeline_embedding.jsonl`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[2]),
    str(HERE.parent / "drift"),
    str(HERE.parents[1] / "builders"),
    str(HERE),
]

import dicom_instances  # noqa: E402  after the thread limits
import imagecodecs  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from decode_reduced import MEAN, STD, enlarged  # noqa: E402
from dicom_instances import KEY, SITE, radiograph, set_frames  # noqa: E402
from pydicom.uid import JPEG2000Lossless  # noqa: E402
from results import Results  # noqa: E402
from sqlalchemy import func, select  # noqa: E402

from monitor.embedding.embedding import PIECES_AHEAD, Embedder  # noqa: E402
from monitor.embedding.embedding_plan import PIECE  # noqa: E402
from monitor.embedding.encoders import load_encoder  # noqa: E402
from monitor.embedding.ordered_work import in_order  # noqa: E402
from monitor.intake.deidentify import deidentify  # noqa: E402
from monitor.intake.reading import read_instance  # noqa: E402
from monitor.intake.vault import Vault  # noqa: E402
from monitor.monitors import MonitorSpecification, apply_monitor  # noqa: E402
from monitor.tables import EmbeddingRow, ScanRow  # noqa: E402
from registry.bundle_store import BundleStore  # noqa: E402
from registry.bundles.assembly import assemble_bundle  # noqa: E402
from registry.bundles.bundle import Bundle  # noqa: E402
from registry.bundles.card import Card, IntendedUse, Tier, TrainingData  # noqa: E402
from registry.bundles.onnx_session import available_cores  # noqa: E402
from registry.bundles.preprocessing import PercentileWindow, Preprocessing, Unit  # noqa: E402
from registry.clock import ReplayClock  # noqa: E402
from registry.database import Database  # noqa: E402
from registry.tracking import Tracking  # noqa: E402
from registry.versions import Origin, VersionRow, register  # noqa: E402

ROUNDS, TARGET = 5, 224
ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
#: what the scans are: side in pixels, compressed, wavelet oversampling
SCANS = {
    "512², native": (512, False, None),
    "2,048², native": (2048, False, None),
    "2,048², JPEG 2000, reduced": (2048, True, 2),
}
#: model -> how many scans a round has
MODELS = {"MobileNetV2": 128, "ViT-B/16": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """A monitor with scans that wait to be embedded."""

    folder: Path
    template: Path  #: the database before anything is embedded
    bundle: Bundle
    inputs: npt.NDArray[np.float32]

    def embedder(self, number: int) -> tuple[Embedder, Database]:
        """Return an embedder on a database of its own."""
        path = self.folder / f"round-{number}.db"
        shutil.copyfile(self.template, path)
        database = Database(f"sqlite:///{path}")
        return (
            Embedder(
                database,
                BundleStore(
                    Tracking("sqlite:///never-opened.db", self.folder / "artifacts"),
                    self.folder / "bundles",
                ),
                Vault(self.folder / "vault"),
                ReplayClock(ANCHOR),
                device="cpu",
                threads=available_cores(),
            ),
            database,
        )


def measure(results: Results) -> None:
    """Measure what is missing."""
    results.measure((f"{model}/{scans}" for model in MODELS for scans in SCANS), _measured)


def tables(results: Results | None = None) -> str:
    """Return the table in Markdown."""
    rows = (results or Results("pipeline_embedding", folder=HERE / "results")).rows()
    lines = [
        f"Scans a second to inputs of {TARGET} × {TARGET}, on {rows[0]['cores']} cores; median of "
        f"{ROUNDS} rounds in turn. *Forward, one session* is the bare forward pass on all cores "
        "with 32 scans at a time, *forward, by core* as the pipeline runs it, inputs in memory. "
        "Shares are medians of the rounds' own, by the clock, and for *by processor* by the "
        "time of all processors, which other work on the machine changes little: what is left "
        "to one is what reading, decoding and committing take. *Busy* is the part of the "
        "cores' time that the pipeline had.",
        "",
        "| model | scans | forward, one session | forward, by core | pipeline | share of one "
        "session | share of by core | by processor | pipeline, ms of a processor | busy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        model, scans = _parts(row["key"])
        one, by_core, pipeline = (
            np.array(row[name]) for name in ("one", "by_core", "pipeline")
        )
        speeds = " | ".join(
            f"{row['scans'] / np.median(way[:, 0]):.1f}" for way in (one, by_core, pipeline)
        )
        shares = " | ".join(
            f"{np.median(way[:, column] / pipeline[:, column]):.3f}"
            for way, column in ((one, 0), (by_core, 0), (by_core, 1))
        )
        lines.append(
            f"| {model} | {scans} | {speeds} | {shares} | "
            f"{1000 * np.median(pipeline[:, 1]) / row['scans']:.1f} | "
            f"{np.median(pipeline[:, 1] / pipeline[:, 0]) / row['cores']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _parts(key: str) -> tuple[str, str]:
    model = next(model for model in MODELS if key.startswith(f"{model}/"))
    return model, key.removeprefix(f"{model}/")


def _measured(key: str) -> Mapping[str, Any]:
    model, scans = _parts(key)
    count = MODELS[model]
    with tempfile.TemporaryDirectory() as folder:
        place = workplace(Path(folder), model, scans, count)
        cores = available_cores()
        one = load_encoder(place.bundle, device="cpu", threads=cores)
        own = load_encoder(place.bundle, device="cpu", threads=1)
        parts = [place.inputs[start : start + PIECE] for start in range(0, count, PIECE)]

        def by_core() -> None:
            for _ in in_order(own.embed, parts, threads=cores, ahead=PIECES_AHEAD * cores):
                pass

        one.embed(place.inputs[:PIECE])  # what is loaded at a first use
        by_core()
        rounds: dict[str, list[tuple[float, float]]] = {
            "one": [],
            "by_core": [],
            "pipeline": [],
        }
        for number in range(ROUNDS):
            rounds["one"].append(timed(lambda: one.embed(place.inputs)))
            rounds["by_core"].append(timed(by_core))
            embedder, database = place.embedder(number)
            with database.reading() as session:  # its session is made before, as theirs are
                embedder.encoder(session.get_one(VersionRow, 1))
            rounds["pipeline"].append(timed(lambda e=embedder: e.embed("chest")))
            with database.reading() as session:
                rows = session.scalar(select(func.count()).select_from(EmbeddingRow))
            if rows != count:
                raise RuntimeError(f"{rows} of {count} scans were embedded")
            database.dispose()
    return {"cores": cores, "scans": count, **rounds}


def _processor_seconds() -> float:
    """Return the processor time of this process and of those that it has ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def workplace(folder: Path, model: str, scans: str, count: int) -> Workplace:
    """Return a monitor with scans in the vault, none of them embedded."""
    side, compressed, oversampling = SCANS[scans]
    preprocessing = Preprocessing(
        unit=Unit.INSTANCE,
        window=PercentileWindow(low=1, high=99),
        size=(TARGET, TARGET),
        mean=MEAN,
        std=STD,
        wavelet_oversampling=oversampling,
    )
    bundle = _bundle(model, preprocessing, folder / "bundle")
    vault = Vault(folder / "vault")
    template = folder / "template.db"
    database = Database(f"sqlite:///{template}")
    database.migrate()
    # A few radiographs, each stored under many identities: their pixels are many times the cache.
    contents = [_stored(index % 16, side, compressed, index) for index in range(count)]
    digests = vault.put_all(contents)
    with database.transaction() as session:
        register(
            session,
            bundle,
            model="general",
            base=None,
            origin=Origin.IMPORT,
            artifact_uri=bundle.root.as_uri(),
            mlflow_run="none",
            actor="benchmark",
            at=ANCHOR,
        )
        apply_monitor(
            session,
            MonitorSpecification.model_validate(
                {
                    "name": "chest",
                    "model": "general",
                    "task": "any",
                    "monitoring_encoder": "general@1",
                    "window_hours": 84,
                    "anchor": ANCHOR,
                    "alpha_per_week": 0.005,
                    "subgroup_attributes": [],
                    "floor": 20,
                }
            ),
            actor="benchmark",
            at=ANCHOR,
        )
        for index, digest in enumerate(digests):
            session.add(
                ScanRow(
                    batch=1,
                    arrived_at=ANCHOR,
                    site=SITE,
                    patient=f"p{index}",
                    study=f"st{index}",
                    series=f"se{index}",
                    instance=f"i{index}",
                    vault_digest=digest,
                    pixel_digest=digest,
                    modality="CR",
                )
            )
    database.dispose()
    inputs = np.random.default_rng(0).normal(size=(count, 3, TARGET, TARGET)).astype(np.float32)
    return Workplace(folder=folder, template=template, bundle=bundle, inputs=inputs)


@cache
def _frame(index: int, side: int, compressed: bool) -> Any:
    samples = enlarged(index, side)
    if not compressed:
        return samples
    return bytes(
        imagecodecs.jpeg2k_encode(
            samples, codecformat="j2k", reversible=True, level=0, bitspersample=12
        )
    )


def _stored(index: int, side: int, compressed: bool, number: int) -> bytes:
    frame = _frame(index, side, compressed)
    ds = radiograph(
        None if compressed else frame, SOPInstanceUID=f"1.2.826.0.1.3680043.8.498.9.{number}"
    )
    if compressed:
        ds.Rows = ds.Columns = side
        set_frames(ds, frame, transfer_syntax=JPEG2000Lossless)
    return deidentify(read_instance(dicom_instances.as_file(ds)), site=SITE, key=KEY).content


def _bundle(model: str, preprocessing: Preprocessing, out_dir: Path) -> Bundle:
    card = Card(
        name="general",
        tier=Tier.GENERAL,
        purpose="A general image encoder.",
        intended_use=IntendedUse(),
        not_for=("clinical use",),
        training_data=(TrainingData(digest=None, description="none", scans=1),),
        licence="BSD-3-Clause",
    )
    if model == "MobileNetV2":
        with as_file(files("api.demo") / "encoder") as weights:
            return assemble_bundle(weights, card, preprocessing, (), {}, out_dir=out_dir)
    import torch
    import transformers
    from transformers.utils import logging

    torch.manual_seed(0)
    encoder = transformers.ViTModel(
        transformers.ViTConfig(image_size=TARGET, patch_size=16), add_pooling_layer=False
    )
    weights = out_dir.with_name("weights")
    logging.disable_progress_bar()
    encoder.save_pretrained(weights)
    return assemble_bundle(weights, card, preprocessing, (), {}, out_dir=out_dir)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return how many seconds it took, and how many of all processors together."""
    spent, started = _processor_seconds(), time.perf_counter()
    work()
    return time.perf_counter() - started, _processor_seconds() - spent


if __name__ == "__main__":
    kept = Results("pipeline_embedding", folder=HERE / "results")
    measure(kept)
    sys.stdout.write(tables(kept))
