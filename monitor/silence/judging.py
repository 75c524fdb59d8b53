"""One look at a monitor's sources: which alarms are to be opened, and which to be closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from monitor.silence.alarms import Closing, Opening, SilenceKind, leaves_of
from monitor.silence.arrivals import Key, NamedSources, name_of
from monitor.silence.ground import Ground
from monitor.silence.settings import SilenceSettings
from monitor.silence.words import first_checks
from monitor.statistics.arrivals.counts import log_at_least
from monitor.statistics.arrivals.looks import LEAST_SURPLUS, ArrivalWatch, Finding, Look
from monitor.statistics.arrivals.questions import Question
from monitor.tables import SilenceAlarmRow
from registry.canonical import Json

Booleans = npt.NDArray[np.bool_]

#: Of what is missing, so much must come without the attribute for it to be only renamed.
_UNSTATED_SHARE = 0.5
#: A new source may send as much as the busiest beside it, give or take this variance.
_NEW_SPREAD = 0.5
_NEW_ORDINARY_HOURS = 3.0
_ORDINARY_AGAIN = 0.05


@dataclass(frozen=True, kw_only=True)
class Judging:
    """A look with what it is held against."""

    ground: Ground
    named: NamedSources
    watch: ArrivalWatch
    settings: SilenceSettings
    #: of the monitor, open
    alarms: Sequence[SilenceAlarmRow]
    #: ask what is asked once an hour, too
    on_the_hour: bool

    @cached_property
    def look(self) -> Look:
        return self.watch.at(
            self.ground.now,
            self.ground.arrivals(studies=True),
            self.ground.arrivals(studies=False),
        )

    def changes(self) -> tuple[list[Opening], list[Closing]]:
        """Return what is to be opened and closed now."""
        look = self.look
        closings = [item for row in self.alarms for item in self._closing(look, row)]
        # What closes now is judged again from the next look on, without the alarm's hours.
        in_alarm = np.zeros(len(self.named.leaves), dtype=np.bool_)
        for row in self.alarms:
            in_alarm |= self.named.leaf_places(leaves_of(row))
        findings = look.findings(in_alarm=in_alarm, on_the_hour=self.on_the_hour)
        openings = [self._opening(finding) for finding in findings]
        openings += self._new_sources_surplus(look)
        closing = {item.alarm for item in closings}
        remaining = [row for row in self.alarms if row.id not in closing]
        return self._widened(look, openings, remaining), closings

    # What closes

    def _closing(self, look: Look, row: SilenceAlarmRow) -> Iterator[Closing]:
        places = self.named.leaf_places(leaves_of(row))
        if not places.any():
            reason = self._reason_without_model(row)
        else:
            reason = self._reason(look, row, places)
        if reason is not None:
            yield Closing(alarm=row.id, reason=reason)

    def _reason(self, look: Look, row: SilenceAlarmRow, places: Booleans) -> str | None:
        if look.recovered(self._around(places), places, Question(row.evidence["question"])):
            return "ordinary again: the newest scans came as they should"
        if self._is_holiday_listed_since(look, row, places):
            return (
                "days since it began are listed as holidays now, and by what holidays are like "
                "nothing is missing"
            )
        days = self.settings.retired_after_days
        if look.now - look.last_arrival(places) > days * 24:
            return (
                f"nothing for {days} days: taken as retired; it is watched again two weeks "
                "after it sends"
            )
        return None

    def _is_holiday_listed_since(
        self, look: Look, row: SilenceAlarmRow, places: Booleans
    ) -> bool:
        """Return whether scans are missing by a calendar only that did not list these days.

        Asked only of days that were listed after the alarm, which took in those before.
        """
        if row.kind == SilenceKind.SURPLUS:
            return False
        listed = self._listed(places, self.ground.clock.hours(row.since))
        if set(listed) <= set(row.evidence.get("holidays", [])):
            return False
        others = np.zeros(len(self.named.leaves), dtype=np.bool_)
        for other in self.alarms:
            others |= self.named.leaf_places(leaves_of(other))
        found = look.findings(in_alarm=others & ~places)
        return not any((one.leaves & places).any() for one in found)

    def _reason_without_model(self, row: SilenceAlarmRow) -> str | None:
        """Return why an alarm of sources that are not known closes, or None."""
        new = [leaf for leaf in leaves_of(row) if leaf in self.ground.new]
        if not new or row.kind != SilenceKind.SURPLUS:
            return "cannot be judged any longer: too few ordinary weeks are left of it"
        log_p = max(self._new_surplus(key, _NEW_ORDINARY_HOURS)[0] for key in new)
        return "ordinary again" if log_p > np.log(_ORDINARY_AGAIN) else None

    def _around(self, places: Booleans) -> int:
        """Return the narrowest source that holds leaves."""
        members = self.named.sources.members
        holding = np.flatnonzero((members | ~places).all(axis=1))
        return int(min(holding, key=lambda source: members[source].sum()))

    # What opens

    def _opening(self, finding: Finding) -> Opening:
        leaves = tuple(
            leaf
            for leaf, covered in zip(self.named.leaves, finding.leaves, strict=True)
            if covered
        )
        kind = SilenceKind.MISSING if finding.question.missing else SilenceKind.SURPLUS
        if kind is SilenceKind.MISSING and self._came_unstated(finding, leaves):
            kind = SilenceKind.UNSTATED
        subgroup = self.named.names[finding.source]
        appeared = self._appeared(leaves, finding.since) if finding.question.missing else []
        listed = self._listed(finding.leaves, finding.since)
        evidence: dict[str, Json] = {
            "holidays": listed,
            "others_expected": round(finding.others_expected, 2),
            "others_received": int(finding.others_received),
            "appeared": [name_of(key, self.settings.attributes) for key in appeared],
            "checks": first_checks(
                kind,
                subgroup=subgroup,
                leaves=len(leaves),
                others_expected=finding.others_expected,
                others_received=finding.others_received,
                appeared=len(appeared),
                holiday=bool(listed),
            ),
        }
        return Opening(
            subgroup=subgroup,
            kind=kind,
            leaves=leaves,
            question=finding.question.value,
            since=self.ground.clock.moment(finding.since),
            expected=finding.expected,
            received=int(finding.received),
            p_value=finding.p_value,
            alpha=finding.alpha,
            evidence=evidence,
        )

    def _listed(self, leaves: Booleans, since: float) -> list[Json]:
        """Return the days since then that are listed as holidays for any of some leaves."""
        days = self.ground.holidays_among(leaves, since, self.ground.now)
        return [day.isoformat() for day in days]

    def _came_unstated(self, finding: Finding, leaves: tuple[Key, ...]) -> bool:
        """Return whether the missing scans came without the attribute that told them apart."""
        came = 0.0
        for key in self.ground.keys:
            if key not in leaves and any(_same_but_unstated(key, leaf) for leaf in leaves):
                times = self.ground.times_of(key)
                came += float(((times >= finding.since) & (times < self.ground.now)).sum())
                place = self.named.leaf_places([key])
                if place.any():
                    expected = self.look.scans.expected(place, finding.since, self.ground.now)
                    came -= float(expected)
        return came >= _UNSTATED_SHARE * finding.expected

    def _appeared(self, leaves: tuple[Key, ...], since: float) -> list[Key]:
        """Return the sources beside these leaves that began since then."""
        widest = {leaf[0] for leaf in leaves}
        return [
            key
            for key, first in self.ground.new.items()
            if first >= since and key[0] in widest and None not in key
        ]

    def _new_sources_surplus(self, look: Look) -> list[Opening]:
        """Return alarms of new sources that send more than any known one beside them may."""
        covered = {leaf for row in self.alarms for leaf in leaves_of(row)}
        found: list[Opening] = []
        for key in self.ground.new:
            for question in (Question.SURGE, Question.MANY):
                if key in covered or (question is Question.MANY and not self.on_the_hour):
                    continue
                log_p, expected, received = self._new_surplus(key, question.hours)
                leaf = len(self.named.sources) - 1
                alpha = self.watch.budget.alpha(
                    question, self.named.sources, leaf, clumps_a_week=0.0
                )
                if received - expected < LEAST_SURPLUS or log_p > np.log(alpha):
                    continue
                covered.add(key)
                subgroup = name_of(key, self.settings.attributes)
                found.append(
                    Opening(
                        subgroup=subgroup,
                        kind=SilenceKind.SURPLUS,
                        leaves=(key,),
                        question=question.value,
                        since=self.ground.clock.moment(look.now - question.hours),
                        expected=expected,
                        received=received,
                        p_value=float(np.exp(log_p)),
                        alpha=alpha,
                        evidence={
                            "others_expected": 0.0,
                            "others_received": 0,
                            "appeared": [subgroup],
                            "checks": first_checks(
                                SilenceKind.SURPLUS,
                                subgroup=subgroup,
                                leaves=1,
                                others_expected=0.0,
                                others_received=0.0,
                                appeared=1,
                            ),
                        },
                    )
                )
        return found

    def _new_surplus(self, key: Key, hours: float) -> tuple[float, float, int]:
        """Return log p, allowed and received scans of a new source over the last hours."""
        start = max(0.0, self.ground.now - hours)
        beside = np.array([leaf[0] == key[0] for leaf in self.named.leaves])
        if not beside.any():
            beside = np.ones_like(beside)
        scans = self.look.scans
        allowed, burst = 1.0, 1.0
        for leaf in np.flatnonzero(beside):
            alone = np.arange(len(beside)) == leaf
            allowed = max(allowed, float(scans.expected(alone, start, self.ground.now)))
            burst = max(burst, scans.model.burst(alone))
        times = self.ground.times_of(key)
        received = int(((times >= start) & (times < self.ground.now)).sum())
        return float(log_at_least(received, allowed, burst, _NEW_SPREAD)), allowed, received

    def _widened(
        self, look: Look, openings: list[Opening], open_rows: Sequence[SilenceAlarmRow]
    ) -> list[Opening]:
        """Let one alarm stand for all parts of a source that are silent, if there are several."""
        silent = [row for row in open_rows if row.kind == SilenceKind.MISSING]
        fresh = [item for item in openings if item.kind is SilenceKind.MISSING]
        for source, name in enumerate(self.named.names):
            members = self.named.sources.members[source]
            leaves = [leaf for leaf, of in zip(self.named.leaves, members, strict=True) if of]
            inside = [row for row in silent if set(leaves_of(row)) <= set(leaves)]
            inside_fresh = [item for item in fresh if set(item.leaves) <= set(leaves)]
            covered = {leaf for row in inside for leaf in leaves_of(row)}
            covered |= {leaf for item in inside_fresh for leaf in item.leaves}
            if len(inside) + len(inside_fresh) < 2 or not inside or covered < set(leaves):
                continue
            parts: list[SilenceAlarmRow | Opening] = [*inside, *inside_fresh]
            since = min(part.since for part in parts)
            begun = self.ground.clock.hours(since)
            # As that of the part that stood out most.
            strongest = min(parts, key=lambda part: part.p_value / part.alpha)
            wide = Opening(
                subgroup=name,
                kind=SilenceKind.MISSING,
                leaves=tuple(leaves),
                question=Question.SILENT.value,
                since=since,
                expected=float(look.studies.expected(members, begun, look.now)),
                received=int(look.studies.received(members, begun + 1e-9, look.now)),
                p_value=strongest.p_value,
                alpha=strongest.alpha,
                evidence={
                    "holidays": self._listed(members, begun),
                    "others_expected": 0.0,
                    "others_received": 0,
                    "appeared": [],
                    "checks": first_checks(
                        SilenceKind.MISSING,
                        subgroup=name,
                        leaves=len(leaves),
                        others_expected=0.0,
                        others_received=0.0,
                        appeared=0,
                    ),
                },
                absorbs=tuple(row.id for row in inside),
            )
            return [item for item in openings if item not in inside_fresh] + [wide]
        return openings


def _same_but_unstated(key: Key, leaf: Key) -> bool:
    """Return whether a key is a leaf's with its last values left out."""
    stated = [value for value in key if value is not None]
    return (
        len(stated) < len(key)
        and key[: len(stated)] == leaf[: len(stated)]
        and (set(key[len(stated) :]) == {None})
    )
