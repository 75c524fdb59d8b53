"""A small installation whose radiographs show marks: a task of several classes, or of findings.

A scan is gray and noisy. Each mark is a bright quarter of it, on a place of its own, so that a
small encoder learns to tell them apart. After a software update one of the marks may be dark.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from dicom_instances import as_file, radiograph
from small_installation import ANCHOR, ENCODER, SITE, SmallInstallation
from training_workspaces import train_here

from monitor.datasets import Purpose, split_by_patient
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.intake.pseudonyms import instance_pseudonyms
from monitor.labelling.mapping import apply_mapping, parse_mapping
from monitor.labelling.values import zero_or_one
from monitor.monitors import apply_monitor, parse_monitor
from monitor.reference_building import build_references
from monitor.tables import EpisodeRow, ScanRow
from registry import ledger
from retrain import approvals, runs
from retrain.approvals import Meaning
from retrain.executors.local import LocalExecutor
from retrain.promotion import promote
from retrain.tables import RunRow

SIDE, TOP = 32, 4095
#: Row and column of each mark's quarter.
PLACES = {"fluid": (0, 0), "mass": (1, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A scan that was sent: its UIDs, and which marks it bears."""

    instance: str
    patient: str
    marks: frozenset[str]
    at: datetime


def image(
    marks: frozenset[str], rng: np.random.Generator, *, dark: str | None
) -> npt.NDArray[np.uint16]:
    """Return samples uint16 [32, 32]; the mark `dark` is dark."""
    shown = rng.normal(0.5, 0.08, size=(SIDE, SIDE))
    half = SIDE // 2
    for mark in marks:
        row, column = PLACES[mark]
        change = -0.3 if mark == dark else 0.3
        shown[row * half : (row + 1) * half, column * half : (column + 1) * half] += change
    return np.rint(np.clip(shown, 0, 1) * TOP).astype(np.uint16)


@dataclass(kw_only=True)
class SeveralFindingsHome:
    """Sends scans with marks, labels them, and brings runs as far as they go."""

    made: SmallInstallation
    task: str
    model: str
    #: draws the marks of a scan
    draw: Callable[[np.random.Generator], frozenset[str]]
    #: writes a label as CSV has it
    written: Callable[[frozenset[str]], str]
    sent: list[Sent] = field(default_factory=list)

    def declare(self, mapping: str) -> None:
        """Say which classes the task has, as labels come before any champion."""
        with self.made.driftward.database.transaction() as session:
            apply_mapping(
                session,
                parse_mapping(mapping, source="mapping.yaml"),
                values_of_champions=zero_or_one,
                actor="operator",
                at=self.made.clock.at,
            )

    def receive(self, count: int, *, software: str = "1.0", dark: str | None = None) -> None:
        """Take scans in as DICOM files, each of a patient of its own."""
        folder = self.made.inbox / f"marks-{len(self.sent)}"
        folder.mkdir()
        for number in range(len(self.sent), len(self.sent) + count):
            rng = np.random.default_rng([7, number])
            marks = self.draw(rng)
            uid = f"2.25.{10**12 + number}"
            ds = radiograph(
                image(marks, rng, dark=dark),
                SOPInstanceUID=f"{uid}.1",
                StudyInstanceUID=f"{uid}.2",
                SeriesInstanceUID=f"{uid}.3",
                PatientID=f"P-{number:05d}",
                SoftwareVersions=software,
                WindowCenter="2048",
                WindowWidth="4096",
            )
            (folder / f"{number}.dcm").write_bytes(as_file(ds))
            self.sent.append(
                Sent(
                    instance=f"{uid}.1",
                    patient=f"P-{number:05d}",
                    marks=marks,
                    at=self.made.clock.at,
                )
            )
        assert self.made.driftward.intake.add([folder], site=SITE).added == count

    def label(
        self,
        *,
        since: datetime,
        misread: Mapping[str, frozenset[str]] | None = None,
        signed_after: timedelta = timedelta(minutes=30),
    ) -> None:
        """Hand labels in as CSV; `misread` says otherwise of some scans, by instance."""
        path = self.made.inbox / f"labels-{len(self.sent)}-{self.made.clock.at:%m%d%H}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["instance", "task", "value", "provenance", "reader", "signed_at"])
            for one in self.sent:
                if one.at >= since:
                    marks = (misread or {}).get(one.instance, one.marks)
                    signed = min(one.at + signed_after, self.made.clock.at).isoformat()
                    writer.writerow(
                        [one.instance, self.task, self.written(marks), "dataset", "r", signed]
                    )
        self.made.driftward.label_intake.add(path, site=SITE, by=self.made.operator)

    def work(self) -> None:
        """Let a worker do all that is queued; training happens in this process."""
        self.made.work()
        # So small a home has too few scans of the shift to renew its reference by.
        failed = [one for one in self.made.failed_jobs() if not one.startswith("renew")]
        assert failed == []

    def newest(self) -> RunRow:
        with self.made.driftward.database.reading() as session:
            return runs.all_runs(session, self.model)[0]

    def approve_and_promote(self, run: RunRow) -> None:
        with self.made.driftward.database.transaction() as session:
            row = runs.require_run(session, run.id)
            approvals.sign(
                session,
                row,
                Meaning.APPROVED,
                by=self.made.operator,
                reason="gates seen",
                at=self.made.clock.at,
            )
            promote(session, row, by=self.made.operator, at=self.made.clock.at)

    def watch(self) -> None:
        """Put a monitor into force."""
        text = f"""
name: chest
model: {self.model}
task: {self.task}
monitoring_encoder: {ENCODER}@1
window_hours: 84
alpha_per_week: 0.005
subgroup_attributes: [software_version]
floor: 20
anchor: {ANCHOR.isoformat()}
"""
        with self.made.driftward.database.transaction() as session:
            apply_monitor(
                session,
                parse_monitor(text, source="monitor.yaml"),
                actor=self.made.operator.name,
                at=self.made.clock.at,
            )

    def open_episode(self, *, onset: datetime) -> int:
        """Open the episode of a shift: its cause and its onset are known, its impact is not."""
        with self.made.driftward.database.transaction() as session:
            row = EpisodeRow(
                monitor="chest",
                state=EpisodeState.OPEN.value,
                opened_at=self.made.clock.at,
                onset=onset,
                cause=Cause.ACQUISITION.value,
                subgroup=None,
                impact=Impact.SUSPECTED.value,
                p_value=0.001,
                effect=1.0,
                evidence={},
                heaviest=[],
            )
            session.add(row)
            session.flush()
            ledger.append(
                session,
                at=self.made.clock.at,
                actor="test",
                kind="episode.opened",
                subject=f"episode {row.id}",
                facts={},
                seals=[row],
            )
            return row.id

    def episode(self, number: int) -> EpisodeRow:
        with self.made.driftward.database.reading() as session:
            return session.get_one(EpisodeRow, number)

    def build_reference(self) -> None:
        """Accept a reference from the history before the first window."""
        driftward = self.made.driftward
        build_references(
            driftward.database,
            driftward.embedder,
            driftward.profiles,
            "chest",
            since=None,
            until=ANCHOR,
            by=self.made.operator,
            at=self.made.clock.at,
        )

    def instances_that_train(
        self, *, onset: datetime, episode: int, shares: Mapping[Purpose, float]
    ) -> set[str]:
        """Return which scans of a shift a run will learn from or choose by, before any label."""
        driftward = self.made.driftward
        with driftward.database.reading() as session:
            scans = session.query(ScanRow).filter(ScanRow.arrived_at >= onset).all()
        parts = split_by_patient(scans, shares, salt=f"{self.model}/episode {episode}")
        judging = {scan.instance for scan in parts[Purpose.LOCKED_DRIFTED]}
        driftward.pseudonym_keys.reload()
        naming = driftward.pseudonym_keys.current()
        shifted = [one.instance for one in self.sent if one.at >= onset]
        known = instance_pseudonyms(shifted, site=SITE, key=naming)
        return {uid for uid, name in zip(shifted, known, strict=True) if name not in judging}


def training_here() -> Callable[..., None]:
    """Return what trains in this process, which saves the seconds that importing torch takes."""

    def train(executor: LocalExecutor, folder: Path, *, tell: Callable[[], None]) -> None:
        train_here(folder)
        tell()

    return train
