"""The monitor's tables: scans and what was seen in them, monitors and what they concluded."""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import JSON, ColumnElement, ForeignKey, Index, UniqueConstraint, func, select
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, column_property, mapped_column

from registry.database import Base
from registry.ledger import BatchSealed, Sealed


class PatientMergeRow(Sealed, Base):
    """Two pseudonyms that name one patient."""

    __tablename__ = "patient_merges"
    __table_args__ = (UniqueConstraint("site", "merged"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str]
    #: keyed pseudonym that is no longer in use
    merged: Mapped[str]
    #: and of the patient that it names
    patient: Mapped[str]
    merged_at: Mapped[datetime]


class ScanRow(BatchSealed, Base):
    """One de-identified scan: an instance, or a series or study as it was at one time.

    Its batch is sealed as a whole.
    """

    __tablename__ = "scans"
    __table_args__ = (
        UniqueConstraint("site", "instance"),
        Index("ix_scans_site_arrived_at", "site", "arrived_at"),
        Index("ix_scans_series", "series"),
    )
    __added__ = MappingProxyType({"unit": "instance", "study_date": None})
    # Found in the table of merges, whose rows are sealed themselves.
    __unsealed__ = frozenset({"merged_into"})

    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column()
    #: keyed pseudonyms
    patient: Mapped[str] = mapped_column(index=True)
    study: Mapped[str] = mapped_column(index=True)
    series: Mapped[str]
    #: of a series or a study: one that its revision has to itself
    instance: Mapped[str]
    #: de-identified file in the vault; of a series or a study: the list of its instances
    vault_digest: Mapped[str]
    #: digest of the pixel bytes alone: tells a resend from a conflict
    pixel_digest: Mapped[str]
    modality: Mapped[str]
    body_part: Mapped[str | None]
    view: Mapped[str | None]
    manufacturer: Mapped[str | None]
    scanner_model: Mapped[str | None]
    software_version: Mapped[str | None]
    station: Mapped[str | None]
    protocol: Mapped[str | None]
    sex: Mapped[str | None]
    age_years: Mapped[int | None]
    #: as far as the setting keeps it: a month ("2024-03") or a shifted day ("2024-03-17")
    study_date: Mapped[str | None]
    #: of a series or a study: when it settled
    arrived_at: Mapped[datetime] = mapped_column(index=True)
    #: "instance", "series" or "study"
    unit: Mapped[str] = mapped_column(default="instance", server_default="instance")
    #: the patient into whom its own was merged, where that happened
    merged_into: Mapped[str | None] = column_property(
        select(PatientMergeRow.patient)
        .where(PatientMergeRow.site == site, PatientMergeRow.merged == patient)
        .correlate_except(PatientMergeRow)
        .scalar_subquery()
    )

    @hybrid_property
    def person(self) -> str:
        """The patient by all that is known of merges: what is resampled and split by."""
        return self.merged_into or self.patient

    @person.inplace.expression
    @classmethod
    def _person(cls) -> ColumnElement[str]:
        return func.coalesce(cls.merged_into, cls.patient)


class EmbeddingRow(BatchSealed, Base):
    """One scan in one space, by one version."""

    __tablename__ = "embeddings"
    __table_args__ = (UniqueConstraint("scan", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), index=True)
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    space: Mapped[str]
    #: float16, little-endian, [dimension]
    vector: Mapped[bytes]


class ResultRow(BatchSealed, Base):
    """What a version said of a scan, and whether it was delivered."""

    __tablename__ = "results"
    __table_args__ = (UniqueConstraint("scan", "version", "task"),)
    __added__ = MappingProxyType({"finding": None})

    id: Mapped[int] = mapped_column(primary_key=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), index=True)
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    task: Mapped[str]
    #: one probability a class, in the order of the task's classes
    probabilities: Mapped[list[Any]]
    #: number of the class that is looked for (`monitor.performance.finding`); None of a task of
    #: several labels, and in rows from before it was kept
    finding: Mapped[int | None]
    #: None of a task that decides nothing by one
    threshold: Mapped[float | None]
    #: "delivered", "withheld" (restricted or suspended), or "background"
    #: (a version that does not serve)
    delivery: Mapped[str]
    created_at: Mapped[datetime]


class RefusalRow(BatchSealed, Base):
    """A scan outside a model's intended use."""

    __tablename__ = "refusals"
    __table_args__ = (UniqueConstraint("scan", "model"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), index=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    reason: Mapped[str]
    created_at: Mapped[datetime]


class MonitorRow(Sealed, Base):
    """A monitor as its specification stands now."""

    __tablename__ = "monitors"

    name: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    specification: Mapped[dict[str, Any]]
    digest: Mapped[str]
    applied_at: Mapped[datetime]


class DatasetRow(Sealed, Base):
    """A frozen set of scans, named by what it is for; its digest covers content, not dates."""

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(index=True)
    #: training, selection, locked reference, locked drifted, reference
    purpose: Mapped[str]
    description: Mapped[str]
    scans: Mapped[int]
    patients: Mapped[int]
    frozen_at: Mapped[datetime]


class DatasetMember(BatchSealed, Base):
    """One scan of a dataset; a dataset's members are sealed together, under its number."""

    __tablename__ = "dataset_members"

    dataset: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), primary_key=True)


class ReferenceRow(Sealed, Base):
    """A frozen, accepted reference of one space, with its profile."""

    __tablename__ = "monitor_references"

    id: Mapped[int] = mapped_column(primary_key=True)
    monitor: Mapped[str] = mapped_column(ForeignKey("monitors.name"), index=True)
    #: "monitoring" or "champion"
    encoder: Mapped[str]
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    space: Mapped[str]
    dataset: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    profile_digest: Mapped[str]
    accepted_at: Mapped[datetime]
    #: verdicts against it can raise an alarm, until it is replaced
    decides: Mapped[bool]
    #: the trend is drawn against it, unbroken
    trend: Mapped[bool]
    retired_at: Mapped[datetime | None]


class SubgroupReferenceRow(Sealed, Base):
    """A subgroup of a reference, and the profile that its windows are compared with."""

    __tablename__ = "subgroup_references"
    __table_args__ = (UniqueConstraint("reference", "subgroup"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[int] = mapped_column(ForeignKey("monitor_references.id"), index=True)
    #: "attribute=value", several joined by " & "
    subgroup: Mapped[str]
    scans: Mapped[int]
    patients: Mapped[int]
    #: None where it is too small to be judged by itself
    profile_digest: Mapped[str | None]


class VerdictRow(Sealed, Base):
    """What the detectors say of one window and subgroup against one reference."""

    __tablename__ = "verdicts"
    __table_args__ = (UniqueConstraint("monitor", "reference", "start", "end", "subgroup"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    monitor: Mapped[str] = mapped_column(ForeignKey("monitors.name"), index=True)
    reference: Mapped[int] = mapped_column(ForeignKey("monitor_references.id"), index=True)
    start: Mapped[datetime]
    end: Mapped[datetime] = mapped_column(index=True)
    #: "attribute=value", or "" for all scans
    subgroup: Mapped[str]
    scans: Mapped[int]
    patients: Mapped[int]
    #: of a shift of any size
    p_value: Mapped[float]
    #: of a shift beyond what ordinary weeks differ by; None if the reference knows no weeks
    week_p_value: Mapped[float | None]
    effect: Mapped[float]
    effect_low: Mapped[float]
    effect_high: Mapped[float]
    #: that 19 of 20 ordinary weeks stay below; None likewise
    ordinary_effect: Mapped[float | None]
    smallest_effect: Mapped[float]
    #: of this window with those before it
    persistence_p_value: Mapped[float | None]
    #: members, kernel, seed
    detail: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]

    @property
    def alarm_p_value(self) -> float:
        """What an alarm rests on."""
        return self.p_value if self.week_p_value is None else self.week_p_value


class EpisodeRow(Sealed, Base):
    """One shift, from opening to closing."""

    __tablename__ = "episodes"

    id: Mapped[int] = mapped_column(primary_key=True)
    monitor: Mapped[str] = mapped_column(ForeignKey("monitors.name"), index=True)
    #: open, accepted, closed
    state: Mapped[str]
    opened_at: Mapped[datetime]
    #: when the shift began
    onset: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    closed_reason: Mapped[str | None]
    cause: Mapped[str]
    #: "attribute=value", or None for all scans
    subgroup: Mapped[str | None]
    #: none shown, suspected, measured
    impact: Mapped[str]
    #: of windows; of the scans since the onset where a stream alone saw it, and 1 while these
    #: are too few
    p_value: Mapped[float]
    #: likewise, and 0
    effect: Mapped[float]
    #: what decided the cause, and the impact, in words and numbers
    evidence: Mapped[dict[str, Any]]
    #: scans that weigh most, heaviest first
    heaviest: Mapped[list[Any]]


class LabelRow(Sealed, Base):
    """Delayed ground truth of one scan; a correction is a new row."""

    __tablename__ = "labels"
    __added__ = MappingProxyType({"classes": None, "influence_reason": None})

    id: Mapped[int] = mapped_column(primary_key=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), index=True)
    task: Mapped[str]
    #: number of the class; of a multi-label task 1 if any class holds, and else 0
    value: Mapped[int]
    #: of a multi-label task: the classes that hold, sorted
    classes: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    #: reader, adjudicated, report, pathology, dataset
    provenance: Mapped[str]
    #: a code that the site chose, or a keyed pseudonym
    reader: Mapped[str]
    #: None where the report does not say
    signed_at: Mapped[datetime | None]
    #: derived when it arrives, and anew when worklists are stated
    ai_influenced: Mapped[bool]
    #: what decided that (`monitor.labelling.influence`); None in rows from before it was kept
    influence_reason: Mapped[str | None]
    arrived_at: Mapped[datetime]


class SilenceAlarmRow(Sealed, Base):
    """A source of scans that sent too little, or too much, from opening to closing."""

    __tablename__ = "silence_alarms"

    id: Mapped[int] = mapped_column(primary_key=True)
    monitor: Mapped[str] = mapped_column(ForeignKey("monitors.name"), index=True)
    #: "attribute=value", several joined by " & ", or "" for all scans
    subgroup: Mapped[str]
    #: missing, surplus, unstated
    kind: Mapped[str]
    #: open, closed
    state: Mapped[str]
    #: the last scan before a silence, or when counts began to differ
    since: Mapped[datetime]
    opened_at: Mapped[datetime]
    #: from then until it was opened: studies where some are missing, scans where too many came
    expected: Mapped[float]
    received: Mapped[int]
    p_value: Mapped[float]
    #: what the p-value was held against
    alpha: Mapped[float]
    #: the leaves that it covers, what was asked, what the others sent, what to check first
    evidence: Mapped[dict[str, Any]]
    closed_at: Mapped[datetime | None]
    closed_reason: Mapped[str | None]
    #: a person closed it: what it found is ordinary from its beginning on
    accepted: Mapped[bool]


class ArrivalLookRow(Base):
    """The newest look at a monitor's arrivals; each look replaces the one before."""

    __tablename__ = "arrival_looks"

    monitor: Mapped[str] = mapped_column(ForeignKey("monitors.name"), primary_key=True)
    looked_at: Mapped[datetime]
    #: the newest scan that it saw, by id
    newest_scan: Mapped[int]
    #: sources, counts by hour, notes
    document: Mapped[dict[str, Any]]


class StreamRow(Base):
    """A stream against one reference, from its beginning to its end.

    What it concluded stands sealed in episodes and ledger; its state is rewritten with every
    batch of scans, in the transaction that stores what came of them.
    """

    __tablename__ = "streams"

    id: Mapped[int] = mapped_column(primary_key=True)
    monitor: Mapped[str] = mapped_column(ForeignKey("monitors.name"), index=True)
    reference: Mapped[int] = mapped_column(ForeignKey("monitor_references.id"), index=True)
    started_at: Mapped[datetime]
    #: the newest scan before its first, by id
    starts_after: Mapped[int]
    #: the newest scan that it has dealt with, by id
    newest_scan: Mapped[int]
    #: scans seen; the next has this number
    scans: Mapped[int]
    scans_between_false_alarms: Mapped[int]
    #: scans a day for which that was reckoned, and whether they were measured
    scans_a_day: Mapped[float]
    measured: Mapped[bool]
    burn_in: Mapped[int]
    #: logarithm of the wealth over that of an alarm
    evidence: Mapped[float]
    #: whether its last alarm's shift lasts
    shifted: Mapped[bool]
    #: the detector, packed; None before the first scan. Some megabytes: read when asked for
    state: Mapped[bytes | None] = mapped_column(deferred=True)
    looked_at: Mapped[datetime]
    #: scans that were passed over, or whose time is odd, by what is the matter with them
    counts: Mapped[dict[str, Any]]
    ended_at: Mapped[datetime | None]
    ended_reason: Mapped[str | None]


class StreamScan(Base):
    """A scan that a stream has dealt with: once, whatever stopped in between."""

    __tablename__ = "stream_scans"
    __table_args__ = (UniqueConstraint("stream", "number"),)

    stream: Mapped[int] = mapped_column(ForeignKey("streams.id"), primary_key=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), primary_key=True)
    #: its place in the stream, from 0; None if it was passed over
    number: Mapped[int | None]


class PerformanceRow(Sealed, Base):
    """Performance of one version on the labelled scans of one window."""

    __tablename__ = "performance"
    __added__ = MappingProxyType({"finding": ""})

    id: Mapped[int] = mapped_column(primary_key=True)
    monitor: Mapped[str] = mapped_column(ForeignKey("monitors.name"), index=True)
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    start: Mapped[datetime]
    end: Mapped[datetime] = mapped_column(index=True)
    #: "attribute=value", or "" for all scans
    subgroup: Mapped[str]
    #: of a task of several findings: which one
    finding: Mapped[str] = mapped_column(server_default="", default="")
    scans: Mapped[int]
    positives: Mapped[int]
    #: auc, sensitivity, specificity: each [estimate, low, high]
    measures: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class PseudonymKeyRow(Sealed, Base):
    """A key of pseudonyms: when it was made and dropped; never the key."""

    __tablename__ = "pseudonym_keys"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    #: None for the key that a home begins with
    made_at: Mapped[datetime | None]
    #: the last batch of scans that was stored under it; None for the newest key
    until_batch: Mapped[int | None]
    #: stand-ins for texts that were in use when it was replaced
    tokens: Mapped[list[str]]
    dropped_at: Mapped[datetime | None]


class LookUpRow(Base):
    """A surrogate that an older key made, found by a newer one."""

    __tablename__ = "look_ups"

    #: of what came in, under the key
    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    surrogate: Mapped[str] = mapped_column(index=True)
    #: number of the key
    key: Mapped[int] = mapped_column(index=True)


class SealedOriginalsRow(Base):
    """What a scan's pseudonyms stand for, sealed to a key that is held elsewhere."""

    __tablename__ = "sealed_originals"

    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), primary_key=True)
    sealed: Mapped[bytes]


class StageTimesRow(Base):
    """How long a stage took, as a histogram (`monitor.embedding.stage_times`)."""

    __tablename__ = "stage_times"

    stage: Mapped[str] = mapped_column(primary_key=True)
    #: the source or the monitor
    subject: Mapped[str] = mapped_column(primary_key=True)
    #: by interval of the stage's bounds, and beyond
    counts: Mapped[list[Any]]
    seconds: Mapped[float]
