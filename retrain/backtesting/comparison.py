"""The policies that a plan is compared with, in figures, and what all of them are held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retrain.backtesting.labelled import LabelledSpan
from retrain.backtesting.policies import Baselines, Course
from retrain.backtesting.report import PolicyFigures
from retrain.backtesting.scratch import Scratch
from retrain.backtesting.weekly import Floor, weekly
from retrain.change_plan import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the policies beside the plan did."""

    policies: tuple[PolicyFigures, ...]
    #: None where the reference has no labels
    floor: Floor | None


def compare(
    scratch: Scratch, span: LabelledSpan, hours: Mapping[Strategy, float]
) -> Comparison:
    """Let the policies run on a span whose labels have all come."""
    baselines = Baselines(scratch, span)
    reference = baselines.reference
    margins = scratch.past.question.plan.gates.limits.reference_margins
    floor = None if reference is None else Floor.of(reference, margins)
    return Comparison(
        policies=tuple(
            _figures(course, scratch, span, floor, hours)
            for course in (baselines.never(), baselines.periodic(), baselines.triggered())
        ),
        floor=floor,
    )


def _figures(
    course: Course,
    scratch: Scratch,
    span: LabelledSpan,
    floor: Floor | None,
    hours: Mapping[Strategy, float],
) -> PolicyFigures:
    first = scratch.reader.heads(scratch.past.champion)
    served = [(span.since, first), *((one.at, one.heads) for one in course.updates)]
    weeks, whole = weekly(span, scratch.task, served)
    each = hours.get(Strategy.LINEAR_PROBE)
    used = frozenset[int]().union(*(one.labels for one in course.updates))
    return PolicyFigures(
        name=course.name,
        rule=course.rule,
        promotions=tuple((one.at, one.reason) for one in course.updates),
        runs=course.runs,
        hours=0.0
        if course.runs == 0
        else None
        if each is None
        else round(each * course.runs, 4),
        labels_used=len(used),
        weeks=tuple(weeks),
        whole=whole,
        below=None if floor is None else sum(map(floor.below, weeks)),
        surely_below=None if floor is None else sum(map(floor.surely_below, weeks)),
        passed_over=course.passed_over,
    )
