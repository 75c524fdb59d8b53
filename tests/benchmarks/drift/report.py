"""Tables and plots of what was measured: Markdown in the README, JSON and SVG beside the results."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plots import plot
from results import RESULTS, Results
from speed import SIZES
from worlds import SHIFTS, worlds

LEVEL = 0.05
FOUR = ("b", "btop", "c", "d")
SCALE_MEMBERS = ("log-mahalanobis-fine", "log-mahalanobis-middle", "log-mahalanobis-coarse")
README = Path(__file__).parents[1] / "README.md"
_BEGIN, _END = "<!-- tables: begin -->", "<!-- tables: end -->"


def write(*, folder: Path = RESULTS, readme: Path | None = README) -> str:
    """Write tables and plots of the results in a folder; return the Markdown."""
    sections = {
        "type_one": _type_one(Results("type_one", folder=folder).rows()),
        "week_effects": _week_effects(Results("week_effects", folder=folder).rows()),
        "power": _power(Results("power", folder=folder).rows()),
        "speed": _speed(Results("speed", folder=folder).rows()),
        "agreement": _agreement(Results("agreement", folder=folder).rows()),
        "large": _large(Results("large", folder=folder).rows()),
        "real": _real(Results("real", folder=folder).rows()),
    }
    text = "\n".join(part for part, _ in sections.values())
    figures = {name: facts for name, (_, facts) in sections.items()}
    document = json.dumps(figures, indent=1, sort_keys=True)
    (folder / "summary.json").write_text(document + "\n", encoding="utf-8")
    plot(figures, folder)
    if readme is not None:
        page = readme.read_text(encoding="utf-8")
        before, rest = page.split(_BEGIN)
        after = rest.split(_END)[1]
        readme.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", encoding="utf-8")
    return text


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _rate(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard error over references."""
    array = np.asarray(values, dtype=np.float64)
    error = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else float("nan")
    return float(array.mean()), float(error)


def _type_one(rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    cells: dict[tuple[str, int, str, int], list[tuple[float, float]]] = defaultdict(list)
    checks = 0
    for row in rows:
        world, scans, mean_scans, _ = row["key"].split("/")
        checks = int(row["checks"])
        for size, counts in row["rejections"].items():
            cells[world, int(scans), mean_scans, int(size)].append(
                (counts[0] / checks, counts[1] / checks)
            )
    order = list(worlds())
    facts = []
    for cell in sorted(cells, key=lambda c: (order.index(c[0]), c[2], c[1], c[3])):
        rate, error = _rate([one for one, _ in cells[cell]])
        low, _ = _rate([one for _, one in cells[cell]])
        facts.append(
            {
                "world": cell[0],
                "patients": cell[2] != "0",
                "reference": cell[1],
                "window": cell[3],
                "references": len(cells[cell]),
                "checks": checks * len(cells[cell]),
                "rate": rate,
                "error": error,
                "rate_at_01": low,
            }
        )
    lines = ["## False alarms\n"]
    if facts:
        worst = max(facts, key=lambda fact: fact["rate"])
        lines.append(
            f"Share of windows of the reference's own distribution with p ≤ .05, ± one standard "
            f"error over references; beside it the share with p ≤ .01. Goal: at most .065 in "
            f"every cell. Worst of {len(facts)} cells: {worst['rate']:.3f} ± "
            f"{worst['error']:.3f}; all cells together "
            f"{np.mean([fact['rate'] for fact in facts]):.3f}.\n"
        )
    lines.append(
        _table(
            ("world", "scans a patient", "reference", "window", "references", "checks",
             "p ≤ .05", "p ≤ .01"),
            [
                (
                    fact["world"], "1.5" if fact["patients"] else "1", fact["reference"],
                    fact["window"], fact["references"], fact["checks"],
                    f"{fact['rate']:.3f} ± {fact['error']:.3f}", f"{fact['rate_at_01']:.3f}",
                )
                for fact in facts
            ],
        )
    )  # fmt: skip
    return "\n".join(lines) + "\n", facts


def _week_effects(rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    cells: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        effect, weeks, _ = row["key"].split("/")
        cells[effect, int(weeks)].append(row)
    facts = []
    for (effect, weeks), units in cells.items():
        fact: dict[str, Any] = {"effect": effect, "weeks": weeks, "references": len(units)}
        fact["checks"] = sum(unit["checks"] for unit in units)
        for what, of in (
            ("rejected", "checks"),
            ("alarms", "checks"),
            ("shifted_rejected", "shifted"),
            ("shifted_alarms", "shifted"),
        ):
            fact[what], fact[f"{what}_error"] = _rate([unit[what] / unit[of] for unit in units])
        facts.append(fact)
    table = _table(
        ("weeks differ by", "weeks in the reference", "references", "checks", "rejected",
         "alarms", "alarms at twice the difference"),
        [
            (
                fact["effect"], fact["weeks"], fact["references"], fact["checks"],
                f"{fact['rejected']:.3f}",
                f"{fact['alarms']:.3f} ± {fact['alarms_error']:.3f}",
                "–" if fact["effect"] == "none" else f"{fact['shifted_alarms']:.2f}",
            )
            for fact in facts
        ],
    )  # fmt: skip
    intro = (
        "## Ordinary weeks\n\nWeeks of 200 scans; every window is a week of its own. *Rejected* "
        "is the plain test at .05, *alarms* the test beyond ordinary weeks. Offsets are 2 or 3 % "
        "of a standard deviation of every coordinate (*rotated*: of the embedding's own "
        "coordinates, else of the principal ones), prevalence ±20 % for every cluster. Goal: "
        "alarms at most .065.\n\n"
    )
    return intro + table + "\n", facts


def _power(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    lines = ["## Power\n"]
    facts: dict[str, Any] = {}
    for world in worlds():
        units = [row for row in rows if row["key"].split("/")[0] == world]
        ours = [row for row in units if "portfolio" in row]
        if not ours:
            continue
        found = _found(units)
        portfolio = {
            shift: _rate(
                [float(np.mean(np.array(row["portfolio"][shift]) <= LEVEL)) for row in ours]
            )
            for shift in ("none", *SHIFTS)
        }
        members = {
            name: {
                shift: float(
                    np.mean([np.array(row["members"][name][shift]) <= LEVEL for row in ours])
                )
                for shift in SHIFTS
            }
            for name in ours[0]["members"]
        }
        peers = {name: powers for name, powers in found.items() if name != "clusters"}
        best = {shift: max(powers[shift] for powers in peers.values()) for shift in SHIFTS}
        best_worst = max(min(powers[shift] for shift in FOUR) for powers in peers.values())
        worst = min(portfolio[shift][0] for shift in FOUR)
        repeats = sum(len(row["portfolio"]["none"]) for row in ours)
        facts[world] = {
            "repeats": repeats,
            "portfolio": portfolio,
            "members": members,
            "peers": found,
            "worst": worst,
            "best_peer_worst": best_worst,
        }
        scale = max(members[name]["c"] for name in SCALE_MEMBERS)
        told = found["clusters"]["e"]
        lines += [
            f"### World *{world}*, reference 2,000, window 200, {repeats} repeats a shift\n",
            _table(
                ("test, input", "repeats", *SHIFTS, "worst of b, btop, c, d"),
                [
                    (
                        "**portfolio**", repeats,
                        *(f"**{portfolio[shift][0]:.3f}**" for shift in SHIFTS),
                        f"**{worst:.3f}**",
                    ),
                    *(
                        (
                            name, int(powers["repeats"]),
                            *(f"{powers[shift]:.2f}" for shift in SHIFTS),
                            f"{min(powers[shift] for shift in FOUR):.2f}",
                        )
                        for name, powers in sorted(peers.items())
                    ),
                    (
                        "*told every scan's cluster*", int(found["clusters"]["repeats"]),
                        *(f"{found['clusters'][shift]:.2f}" for shift in SHIFTS), "",
                    ),
                ],
            ),
            "",
            f"Without shift the portfolio rejects {portfolio['none'][0]:.3f}. Worst of four: "
            f"{worst:.3f} against {best_worst:.2f} of the best peer, "
            f"{worst / max(best_worst, 1e-9):.1f} times. Behind the best peer on one shift by at "
            f"most {max(best[s] - portfolio[s][0] for s in SHIFTS):.3f}. On e "
            f"{portfolio['e'][0] / max(told, 1e-9):.2f} of the test that is told the clusters "
            f"(Pearson's chi-squared). On c its best member alone finds {scale:.3f}; combining "
            f"costs {scale - portfolio['c'][0]:.3f}.\n",
        ]  # fmt: skip
    return "\n".join(lines), facts


def _found(units: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the size-adjusted power of every peer and input, by shift."""
    pooled: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for unit in units:
        for name, scores in unit["scores"].items():
            for shift, values in scores.items():
                pooled[name][shift] += values
    found = {}
    for name, scores in pooled.items():
        threshold = float(np.quantile(scores["none"], 1.0 - LEVEL, method="higher"))
        found[name] = {
            **{shift: float(np.mean(np.array(scores[shift]) > threshold)) for shift in SHIFTS},
            "repeats": float(len(scores["none"])),
        }
    return found


def _speed(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    by_size = {row["key"]: row for row in rows}
    lines = [
        "## Cost of a check\n\nCPU seconds on one thread, median and range of the rounds, tests "
        "in turn in one run; permutation tests with 100 permutations. Peak memory is that of a "
        "process that holds the test, its imports included.\n"
    ]
    facts: dict[str, Any] = {}
    for reference, window in SIZES:
        row = by_size.get(f"{reference}/{window}")
        if row is None:
            continue
        medians = {test: float(np.median(took)) for test, took in row["check"].items()}
        ours = medians["portfolio"]
        facts[row["key"]] = {
            "median": medians,
            "times": {test: took / ours for test, took in medians.items()},
            "peak_gb": row["peak_gb"],
            "rounds": len(row["check"]["portfolio"]),
        }
        lines += [
            f"### Reference {reference:,}, window {window}, "
            f"{len(row['check']['portfolio'])} rounds\n",
            _table(
                ("test", "check", "range", "times the portfolio's", "peak GB"),
                [
                    (
                        test,
                        f"{took:.4f} s",
                        f"{min(row['check'][test]):.4f}–{max(row['check'][test]):.4f}",
                        f"{took / ours:,.1f}",
                        f"{row['peak_gb'][test]:.2f}",
                    )
                    for test, took in sorted(medians.items(), key=lambda item: item[1])
                ],
            ),
            "",
        ]
    if {"2000/200", "50000/200"} <= set(facts):
        small, large = (facts[key]["median"]["portfolio"] for key in ("2000/200", "50000/200"))
        lines.append(f"check(N = 50,000) / check(N = 2,000): {large / small:.2f}.\n")
    return "\n".join(lines), facts


def _agreement(rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    facts = [
        {
            "peer": row["key"],
            "inputs": len(row["distances"]),
            "within_three": float(np.mean(np.array(row["distances"]) <= 3.0)),
            "largest": float(max(row["distances"])),
        }
        for row in rows
    ]
    table = _table(
        ("peer", "shared inputs", "within 3 standard errors", "largest distance"),
        [
            (
                fact["peer"],
                fact["inputs"],
                f"{fact['within_three']:.0%}",
                f"{fact['largest']:.2f}",
            )
            for fact in facts
        ],
    )
    intro = (
        "## The exact MMD and its peers\n\np-values on the same inputs with the same kernel, in "
        "standard errors of two Monte Carlo estimates.\n\n"
    )
    return intro + table + "\n", facts


def _large(rows: Sequence[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    facts = [
        {
            "scans": int(row["key"]),
            "seconds": row["seconds"],
            "microseconds_a_scan": 1e6 * row["seconds"] / int(row["key"]),
            "peak_gb": row["peak_gb"],
        }
        for row in rows
    ]
    table = _table(
        ("scans, d = 512", "fit, CPU seconds", "µs a scan", "peak GB, embeddings included"),
        [
            (
                f"{fact['scans']:,}",
                f"{fact['seconds']:.1f}",
                f"{fact['microseconds_a_scan']:.0f}",
                f"{fact['peak_gb']:.2f}",
            )
            for fact in facts
        ],
    )
    return "## Fitting many scans\n\n" + table + "\n", facts


def _real(rows: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    facts: dict[str, Any] = {}
    lines = ["## Real embeddings\n"]
    children: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        what, encoder, *_ = row["key"].split("/")
        if what == "children":
            children[encoder].append(row)
        else:
            facts.setdefault(what, {})[encoder] = {
                name: value for name, value in row.items() if name != "key"
            }
    cells = []
    for encoder, units in children.items():
        ours = {
            shift: _rate(
                [float(np.mean(np.array(u["portfolio"][shift]) <= LEVEL)) for u in units]
            )
            for shift in units[0]["portfolio"]
        }
        mmd = {}
        for label in units[0]["mmd"]:
            pooled = {
                shift: np.concatenate([unit["mmd"][label][shift] for unit in units])
                for shift in ours
            }
            threshold = np.quantile(pooled["none"], 1.0 - LEVEL, method="higher")
            mmd[label] = {
                shift: float((pooled[shift] > threshold).mean())
                for shift in ours
                if shift != "none"
            }
        facts.setdefault("children", {})[encoder] = {"portfolio": ours, "mmd": mmd}
        for shift, (rate, error) in ours.items():
            best = (
                ""
                if shift == "none"
                else f"{max(powers[shift] for powers in mmd.values()):.2f}"
            )
            counted = sum(len(unit["portfolio"][shift]) for unit in units)
            cells.append(
                (encoder, shift, len(units), counted, f"{rate:.3f} ± {error:.3f}", best)
            )
    lines += [
        "Children's chest radiographs (Guangzhou), reference 1,200 scans, windows of 200, d = "
        "1,280: against themselves, after a slight change of the scanner's software, with 63 "
        "instead of 73 % pneumonia, and with 4 % adults mixed in.\n",
        _table(
            ("encoder", "shift", "references", "checks", "portfolio, p ≤ .05",
             "best size-adjusted MMD"),
            cells,
        ),
        "",
    ]  # fmt: skip
    if "adults" in facts:
        lines += [
            "Adults (NIH), exact MMD: PA against PA with patients split, by permuting patients "
            "and by permuting images; PA against AP by patients. MR: GE against Siemens, "
            "confounded with protocol.\n",
            _table(
                (
                    "encoder",
                    "PA/PA rejected, by patient",
                    "by image",
                    "PA/AP p",
                    "GE/Siemens p",
                ),
                [
                    (
                        encoder,
                        f"{one['by_patient']:.3f}",
                        f"{one['by_image']:.3f}",
                        f"{one['pa_ap']:.3f}",
                        f"{facts['magnetic'][encoder]['ge_siemens']:.3f}",
                    )
                    for encoder, one in facts["adults"].items()
                ],
            ),
            "",
        ]
    return "\n".join(lines), facts
