"""One stream, scan by scan: bets, the alarm, when its shift began, and when it is over."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from monitor.statistics.embeddings import Floats
from monitor.statistics.streams.betting import ROUND, Bets, alarm_wealth
from monitor.statistics.streams.onset import onset
from monitor.statistics.streams.recent import NOBODY, Recent
from monitor.statistics.streams.recovery import Recovery
from monitor.statistics.streams.stakes import StreamLaw

# Evidence that four ordinary scans in five stay below: where it begins, and how far it
# moves with each round.
_ORDINARY, _ORDINARY_STEP, _ORDINARY_SHARE = 2.0, 0.01, 0.8
# Scans since a shift seems over by which it is told whether everything is ordinary again,
# and after which, where it was not, others are looked at.
_STRETCH, _LONGEST_STRETCH = 60.0, 240.0
# Share of the stake from which on a member leads.
_LEADING_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAlarm:
    """A shift that a stream showed. Scans are counted from 0, the stream's first."""

    #: the scan that raised it
    scan: int
    #: the scan that the shift began with, as estimated, …
    onset: int
    #: … and the scans between which it began in 9 of 10 cases. An `onset_low` that is the
    #: oldest of the last 512 patients may as well lie before
    onset_low: int
    onset_high: int
    #: names of the members that see the shift, the clearest first
    leading: tuple[str, ...]
    #: the scan at which the shift was seen to be over; None while it lasts
    recovered: int | None

    def __post_init__(self) -> None:
        if not 0 <= self.onset_low <= self.onset <= self.onset_high <= self.scan:
            raise ValueError(f"an onset outside its interval, or after its alarm: {self}")
        if self.recovered is not None and self.recovered <= self.scan:
            raise ValueError(f"a shift that was over before its alarm: {self}")


@dataclass(slots=True, kw_only=True)
class Shift:
    """What is followed while a shift lasts."""

    #: first column of the features that see the shift best; `recovery` knows how many
    column: int
    #: [s] mean of these features before the shift, about the reference's
    before: Floats
    recovery: Recovery
    #: whether it seems over, so that the averages hold scans since then only
    fading: bool

    def see(self, sums: Floats, weight: float, mass: float) -> None:
        """See a patient's sums of features [D], weighted to a mass."""
        part = slice(self.column, self.column + len(self.before))
        self.recovery.see(weight * sums[part] - mass * self.before, mass)


@dataclass(slots=True, kw_only=True)
class Watch:
    """A stream within its budget."""

    law: StreamLaw
    scans_between_false_alarms: int
    burn_in: int
    bets: Bets
    recent: Recent
    #: keys of the patients in the present round, and their first scans
    present: list[int]
    present_first: list[int]
    #: scans seen
    scans: int
    alarms: list[StreamAlarm]
    shift: Shift | None
    #: evidence that four ordinary scans in five stay below
    ordinary: float

    @classmethod
    def start(cls, law: StreamLaw, *, scans_between_false_alarms: int, burn_in: int) -> Watch:
        """Return the watch over a stream that has seen nothing."""
        return cls(
            law=law,
            scans_between_false_alarms=scans_between_false_alarms,
            burn_in=burn_in,
            bets=Bets.start(law, learning=burn_in > 0),
            recent=Recent.nobody(law.size),
            present=[],
            present_first=[],
            scans=0,
            alarms=[],
            shift=None,
            ordinary=_ORDINARY,
        )

    @property
    def nearness(self) -> float:
        """Logarithm of the wealth over that of an alarm."""
        return float(
            np.log(self.bets.wealth[0] / alarm_wealth(self.scans_between_false_alarms))
        )

    def see(self, features: Floats, key: int) -> StreamAlarm | None:
        """See one scan, its features [D] about the reference's mean, of a patient.

        Returns the alarm that it raises, if it does.
        """
        bets = self.bets
        bets.watching = self.scans >= self.burn_in and self.shift is None
        place = self._place(key)
        wealth = float(bets.bet(features[None], np.array([place]))[0])
        self.scans += 1
        # A shift that is over is noticed while a place is made.
        bets.watching = self.scans > self.burn_in and self.shift is None
        if bets.watching and wealth >= alarm_wealth(self.scans_between_false_alarms):
            return self._raise()
        return None

    def _place(self, key: int) -> int:
        """Return a patient's place in the round, after making one if need be."""
        if key != NOBODY and key in self.present:
            return self.present.index(key)
        recent = self.recent
        known = None if key == NOBODY else recent.take(key)
        if known is not None or len(self.present) == ROUND:
            self._settle()
        if known is not None and self.recent is recent:
            sums, scans, clock = known
            self.bets.readmit(sums, scans, age=float(self.bets.averages.clock[0]) - clock)
        else:
            self.bets.round.taken[0] += 1
        self.present.append(key)
        self.present_first.append(self.scans)
        return len(self.present) - 1

    def _settle(self) -> None:
        """End the round: the averages and the memory see its patients."""
        bets, round_ = self.bets, self.bets.round
        sums, scans = round_.sums[0].copy(), round_.scans[0].copy()
        bets.settle(np.ones(1, dtype=bool))
        clock = float(bets.averages.clock[0])
        for i, (key, first) in enumerate(zip(self.present, self.present_first, strict=True)):
            count = int(scans[i])
            self.recent.add(sums[i], count, first=first, clock=clock, key=key)
            if self.shift is not None:
                mass = float(self.law.masses[count])
                self.shift.see(sums[i], mass / count, mass)
        evidence = float(bets.stakes.evidence[0])
        if self.shift is None:
            step = _ORDINARY_SHARE if evidence > self.ordinary else _ORDINARY_SHARE - 1.0
            self.ordinary += _ORDINARY_STEP * step if np.isfinite(evidence) else 0.0
        elif self.present and self._over(self.shift, evidence):
            self._recover()
        self.present, self.present_first = [], []

    def _over(self, shift: Shift, evidence: float) -> bool:
        """Return whether a shift is over, by its own direction and by everything else."""
        stretch = float(self.bets.averages.masses[0].max())
        seems = shift.recovery.over(self.scans_between_false_alarms)
        if seems and shift.fading and stretch >= _STRETCH and evidence <= self.ordinary:
            return True
        if seems and (not shift.fading or stretch >= _LONGEST_STRETCH):
            self.bets.averages.forget()
            # Whoever was seen before is in no average that he could be taken out of.
            self.recent = Recent.nobody(self.law.size)
            self.bets.spread()
        shift.fading = seems
        return False

    def _recover(self) -> None:
        """Close the alarm, and watch anew."""
        self.alarms[-1] = replace(self.alarms[-1], recovered=self.scans - 1)
        self.shift = None
        self.recent = Recent.nobody(self.law.size)
        self.bets.pooling = True
        self.bets.restart()

    def _raise(self) -> StreamAlarm:
        """Raise the alarm, date the shift, and begin to follow it."""
        law, averages = self.law, self.bets.averages
        stakes = self.bets.stakes
        self._settle()
        by_member = stakes.shares[0].sum(axis=0)
        member = int(by_member.argmax())
        part = law.part(member)
        trace, spread = float(law.traces[member]), float(law.spreads[member])
        if member in stakes.cells:
            rate = int(stakes.shares[0, :, member].argmax())
            column = int(stakes.cells[member][0][0, rate])
            part = slice(column, column + 1)
            trace = spread = float(np.square(stakes.deviations[0, rate, member]))
        places = self.recent.in_order()
        counts = self.recent.scans[places]
        masses = law.masses[counts]
        scores = self.recent.sums[places].astype(np.float64) * (masses / counts)[:, None]
        size = float(law.sizes[member])
        middle = averages.plain[0, part] / (size + float(averages.pooled[0]))
        dated = onset(
            scores[:, part] - masses[:, None] * middle, masses, trace=trace, spread=spread
        )
        shifted, mass = scores[dated.unit :].sum(axis=0), float(masses[dated.unit :].sum())
        # What was pooled since the onset was no ordinary scan.
        pooled = max(float(averages.pooled[0]) - mass, 0.0)
        averages.replace_plain(0, averages.plain[0] - shifted, pooled)
        before = averages.plain[0, part] / (size + pooled)
        self.bets.pooling = False
        self.bets.spread()
        self.shift = Shift(
            column=part.start,
            before=before,
            recovery=Recovery.start(
                shifted[part] - mass * before,
                mass,
                trace=trace,
                spread=spread,
                inverse_size=1.0 / (size + pooled),
            ),
            fading=False,
        )
        first = self.recent.first[places]
        leading = [g for g in np.argsort(-by_member) if by_member[g] >= _LEADING_SHARE]
        alarm = StreamAlarm(
            scan=self.scans - 1,
            onset=int(first[dated.unit]),
            onset_low=int(first[dated.low]),
            onset_high=int(first[dated.high]),
            leading=tuple(law.members[g].name for g in leading or [member]),
            recovered=None,
        )
        self.alarms.append(alarm)
        return alarm
