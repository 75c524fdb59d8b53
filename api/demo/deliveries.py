"""What the demo's sites send: which radiograph when, misrouted scans, and the readers' labels.

Who is where follows from the seed alone: no scan comes twice, and none of a
later week is known before.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from api.demo.acquisition import NEW_SOFTWARE, OLD_SOFTWARE, SECOND_SOFTWARE
from api.demo.radiographs import write_adult, write_child
from api.demo.sample import Sample, load_sample

SITE, SECOND_SITE = "guangzhou", "clinic"
#: Of the children, who are all of one hospital, so many are said to come from the second site.
SECOND_SHARE = 0.14
HISTORY_SCANS = 2_680
WEEKLY_SCANS = 700
#: Magnetic resonance images and adults that a router sends to the chest model by mistake.
MISROUTED_WEEKLY = {2: (6, 4), 3: (6, 4)}
READING_TIME = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One scan of the sample, to be sent."""

    #: "child", "adult" or "mr"
    kind: str
    #: place in the sample
    index: int
    updated: bool
    site: str = SITE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    instance: str
    site: str
    truth: int
    at: datetime


class Deliveries:
    """Deals the sample's scans out to the demo's weeks, and writes them as DICOM files."""

    def __init__(self, inbox: Path, *, seed: int, shift: bool, updated_from_week: int) -> None:
        self._inbox = inbox
        self._seed = seed
        self._shift = shift
        self._updated_from_week = updated_from_week
        self._sample: Sample = load_sample()
        rng = np.random.default_rng([seed, 1])
        self._children = rng.permutation(len(self._sample.children))
        self._second = rng.random(len(self._sample.children)) < SECOND_SHARE
        self._adults = rng.permutation(len(self._sample.adults))
        self._magnetic = rng.permutation(len(self._sample.magnetic))
        self._dealt = {"child": 0, "adult": 0, "mr": 0}
        self._sent: list[_Sent] = []
        self._lots = 0

    def history(self) -> list[Source]:
        """Return the scans from before the weeks."""
        return self._deal("child", HISTORY_SCANS, updated=False)

    def week(self, number: int) -> list[Source]:
        """Return a week's scans in the order of their arrival."""
        updated = self._shift and number >= self._updated_from_week
        magnetic, adults = MISROUTED_WEEKLY.get(number, (0, 0))
        scans = [
            *self._deal("child", WEEKLY_SCANS, updated=updated),
            *self._deal("mr", magnetic, updated=False),
            *self._deal("adult", adults, updated=False),
        ]
        order = np.random.default_rng([self._seed, 2, number]).permutation(len(scans))
        return [scans[place] for place in order]

    def write(self, scans: Sequence[Source], *, at: datetime) -> dict[str, Path]:
        """Write scans as DICOM files into new folders of the inbox, and return these by site."""
        self._lots += 1
        folders: dict[str, Path] = {}
        for number, scan in enumerate(scans):
            folder = self._inbox / f"lot-{self._lots:03d}-{scan.site}"
            folder.mkdir(parents=True, exist_ok=True)
            folders[scan.site] = folder
            path = folder / f"{number:04d}.dcm"
            match scan.kind:
                case "child":
                    self._write_child(path, scan, at=at)
                case "adult":
                    write_adult(path, self._sample.adults[scan.index], taken_at=at)
                case _:
                    path.write_bytes(self._sample.magnetic[scan.index])
        return folders

    def _write_child(self, path: Path, scan: Source, *, at: datetime) -> None:
        child = self._sample.children[scan.index]
        second = scan.site == SECOND_SITE
        software = NEW_SOFTWARE if scan.updated else OLD_SOFTWARE
        instance = write_child(
            path,
            child,
            software=SECOND_SOFTWARE if second else software,
            taken_at=at,
            second_site=second,
        )
        self._sent.append(
            _Sent(instance=instance, site=scan.site, truth=child.pneumonia, at=at)
        )

    def write_labels(self, *, since: datetime, until: datetime) -> dict[str, Path]:
        """Write each site's labels of what arrived in a span, and return the files by site.

        They are read within the hour, before any result.
        """
        files: dict[str, Path] = {}
        for site in (SITE, SECOND_SITE):
            path = self._inbox / f"labels-{until:%Y%m%d}-{site}.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(
                    ["instance", "task", "value", "provenance", "reader", "signed_at"]
                )
                for sent in self._sent:
                    if sent.site == site and since <= sent.at < until:
                        signed = (sent.at + READING_TIME).isoformat()
                        writer.writerow(
                            [
                                sent.instance,
                                "pneumonia",
                                sent.truth,
                                "dataset",
                                "dataset",
                                signed,
                            ]
                        )
            files[site] = path
        return files

    def _deal(self, kind: str, count: int, *, updated: bool) -> list[Source]:
        places = {"child": self._children, "adult": self._adults, "mr": self._magnetic}[kind]
        start = self._dealt[kind]
        self._dealt[kind] = start + count
        return [
            Source(
                kind=kind,
                index=int(place),
                updated=updated,
                site=SECOND_SITE if kind == "child" and self._second[place] else SITE,
            )
            for place in places[start : start + count]
        ]
