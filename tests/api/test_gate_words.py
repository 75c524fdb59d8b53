"""Gates as they are read: no figure gets lost, and what did not pass says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api.gate_words import difference, gate_lines
from api.pages.gate_table import BAR_WIDTH, gate_table
from monitor.statistics.performance.proportions import Interval
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of, not_evaluable


def _compared(
    name: str, estimate: float, low: float, high: float, margin: float
) -> GateOutcome:
    return GateOutcome(
        name=name,
        outcome=Outcome.PASSED if low > margin else Outcome.FAILED,
        statistic="paired proportions",
        estimate=estimate,
        interval=Interval(low=low, high=high, level=0.9),
        margin=margin,
        p_value=0.01,
        n=52,
        sentence=f"All about {name}, and whether it holds.",
    )


def _subgroups() -> dict[str, Any]:
    return all_of(
        Gate.SUBGROUPS,
        [
            _compared("subgroups/sex=F/reference/sensitivity", 0.019, -0.031, 0.082, -0.1),
            _compared("subgroups/sex=M/reference/specificity", -0.938, -0.986, -0.657, -0.15),
            _compared("subgroups/sex=M/reference/AUC", -0.025, -0.042, -0.007, -0.05),
            not_evaluable(
                "subgroups/sex=F/drifted/sensitivity",
                statistic="paired proportions",
                n=0,
                sentence="It rests on 0 patients.",
            ),
        ],
    ).as_record()


def test_a_comparison_is_one_line_and_what_did_not_pass_says_why() -> None:
    lines = gate_lines([_subgroups()])

    text = "\n".join(lines)
    assert lines[0].split(maxsplit=1) == ["failed", "no subgroup harmed"]
    assert "+1.9 points (−3.1 to +8.2), margin −10.0" in text
    assert "−93.8 points (−98.6 to −65.7), margin −15.0" in text
    assert "−0.025 (−0.042 to −0.007), margin −0.050" in text
    assert "All about subgroups/sex=M/reference/specificity" in text
    assert "It rests on 0 patients." in text
    assert "All about subgroups/sex=F/reference/sensitivity" not in text
    marked = [line for line in lines if line.lstrip().startswith("!")]
    assert [line.split("!")[1].split("  ")[0].strip() for line in marked] == [
        "sex=M, reference, specificity",
        "sex=F, drifted, sensitivity",
    ]


def test_lines_keep_to_the_width() -> None:
    detail = replace(
        _compared("parity", 0.0, 0.0, 0.0, -1.0), sentence="word " * 60, interval=None
    ).as_record()

    assert max(len(line) for line in gate_lines([detail], width=60)) <= 60


def test_what_compares_no_models_is_no_difference() -> None:
    slope = _compared("calibration/slope", 1.02, 0.9, 1.1, 0.8).as_record()
    area = _compared("first_version_auc", 0.97, 0.95, 0.98, 0.9).as_record()

    assert difference(slope) is None
    assert difference(area) is None


def test_bars_of_a_page_share_their_scale_and_are_cut_at_their_ends() -> None:
    table = gate_table([_subgroups()])

    [gate] = table.lines
    good, bad, area, unknown = (part.bar for part in gate.parts)
    assert table.drawn
    assert good is not None
    assert bad is not None
    assert area is not None
    assert unknown is None
    assert good.zero == bad.zero == area.zero == BAR_WIDTH / 2
    assert good.margin < good.low < good.zero < good.high < BAR_WIDTH
    # 15 points to the left, and far beyond: an arrow instead of a point.
    assert bad.margin < good.margin < area.margin
    assert bad.cut_low
    assert not bad.cut_high
    assert bad.estimate is None
    assert "−93.8 points" in bad.label


def test_a_page_without_gates_draws_nothing() -> None:
    assert gate_table([]).lines == ()
    assert not gate_table([]).drawn
