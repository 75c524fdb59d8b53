"""`driftward episode …`: what people are alerted to."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

import typer

from api.cli.options import (
    HomeOption,
    JsonOption,
    NumberArgument,
    ReasonOption,
    opened,
    show,
    table,
)

if TYPE_CHECKING:
    from monitor.tables import EpisodeRow

#: Subgroups that `show` names.
MOST_SUBGROUPS = 8

app = typer.Typer(name="episode", help="See shifts, from opening to closing.")


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List episodes, newest first."""
    from monitor.episodes.episodes import all_episodes

    driftward = opened(home)
    with driftward.database.reading() as session:
        documents = [describe(row) for row in all_episodes(session)]
    rows = [
        [
            document["episode"],
            document["monitor"],
            document["state"],
            document["cause"],
            document["subgroup"] or "all scans",
            document["impact"],
            f"{document['onset']:%Y-%m-%d %H:%M}",
        ]
        for document in documents
    ]
    header = ["episode", "monitor", "state", "cause", "where", "impact", "since"]
    show(documents, as_json=as_json, lines=table(rows, header=header))


@app.command("show")
def show_(
    episode: NumberArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show one episode: what, where, since when, whether it matters, what was done."""
    from monitor.episodes.episodes import require_episode
    from retrain import decisions

    driftward = opened(home)
    with driftward.database.reading() as session:
        row = require_episode(session, episode)
        made = decisions.of_episode(session, row.id)
    document = {
        **describe(row),
        "decisions": [
            {
                "action": decision.action,
                "reason": decision.reason,
                "carried_out": decision.carried_out,
                "at": decision.decided_at,
            }
            for decision in made
        ],
    }
    lines = [
        *_what(row),
        *_first_lines(row),
        "",
        "why",
        *[f"  - {reason}" for reason in row.evidence["diagnosis"]["reasons"]],
        *_subgroup_lines(row.evidence["subgroups"]),
        "",
        "done" if made else "nothing was decided yet",
        *[
            f"  - {decision.action}{'' if decision.carried_out else ' (proposed)'}: "
            f"{decision.reason}"
            for decision in made
        ],
    ]
    show(document, as_json=as_json, lines=lines)


@app.command("close")
def close(
    episode: NumberArgument,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close an episode by hand, with a reason."""
    from monitor.episodes import episodes
    from monitor.episodes.episodes import EpisodeState
    from monitor.monitors import require_monitor
    from registry import serving
    from registry.identities import Role
    from registry.refusals import attempted

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    with driftward.database.reading() as session:
        episodes.require_episode(session, episode)
    with attempted(
        driftward.database, "episode.refused", subject=f"episode {episode}", by=by, at=now
    ) as session:
        by.require(Role.OPERATOR, "close an episode")
        row = episodes.require_episode(session, episode)
        episodes.end(
            session,
            row,
            EpisodeState.CLOSED,
            reason=reason,
            actor=by.name,
            at=now,
        )
        model = require_monitor(session, row.monitor).specification.model
        kept = row.subgroup is not None and bool(
            serving.restricted(session, model, row.subgroup)
        )
        document = {**describe(row), "still_restricted": kept}
    lines = [f"episode {episode} is closed: {reason}"]
    if kept:
        lines.append(
            f"{model} stays restricted for {row.subgroup}; `driftward lift {model} --subgroup "
            f"{quote(row.subgroup or '')} --reason TEXT` takes it back into use"
        )
    show(document, as_json=as_json, lines=lines)


def change_in_words(row: EpisodeRow) -> str:
    """Return what an episode is of, as its first line says it."""
    return f"{row.cause} change" if row.cause != "unknown" else "a change of unknown cause"


def _what(row: EpisodeRow) -> list[str]:
    """Return what a tired person must know, one line each."""
    from api.pages.explanation import impact_in_words
    from monitor.following.words import onset_level

    evidence = row.evidence
    level = onset_level(evidence)
    low, high = (f"{moment[:10]} {moment[11:16]}" for moment in evidence["onset_interval"])
    detectors = ", ".join(
        f"{one['name']} ({one['p_value']:.2g})" for one in evidence["detectors"][:3]
    )
    lines = [
        f"episode {row.id} of {row.monitor} is {row.state}: {change_in_words(row)}",
        f"  where   {row.subgroup or 'all scans'}: {evidence['place']}",
        *_now_line(evidence),
        f"  since   {row.onset:%Y-%m-%d %H:%M} UTC ({level}: {low} to {high}), alarm "
        f"{row.opened_at:%Y-%m-%d %H:%M} UTC",
        *_stream_lines(row),
        *_sure_line(row),
        *_size_line(row),
        f"  matters {impact_in_words(row)}",
        *_estimate_line(row),
    ]
    if detectors:
        lines.append(f"  led by  {detectors}, in the {evidence['encoder']} encoder's space")
    if row.closed_reason:
        lines.append(f"  ended   {row.closed_at:%Y-%m-%d %H:%M} UTC: {row.closed_reason}")
    return lines


def _now_line(evidence: dict[str, Any]) -> list[str]:
    """Return where the newest window that was of it sees it, unless that is its place."""
    now = evidence.get("place_now")
    return [f"  now     in its newest window {now}"] if now else []


def _first_lines(row: EpisodeRow) -> list[str]:
    """Return what to do first, while there is something to do."""
    from monitor.episodes.first_steps import first_steps

    steps = [f"  - {step}" for step in first_steps(row)]
    if not steps:
        return []
    if row.heaviest:
        scans = ", ".join(str(one["scan"]) for one in row.heaviest[:6])
        steps.append(f"  - scans that weigh most: {scans} (`driftward scan show`)")
    return ["", "look first", *steps]


def _stream_lines(row: EpisodeRow) -> list[str]:
    """Return what streams saw of it."""
    from monitor.following.words import seen_in_words

    entries = row.evidence.get("streams", [])
    return [f"  stream  {seen_in_words(entry)}" for entry in entries]


def _sure_line(row: EpisodeRow) -> list[str]:
    """Return how sure an alarm of windows is; a stream's keeps a budget of its own."""
    alpha = row.evidence["alpha"]
    if alpha is not None:
        return [f"  sure    p = {row.p_value:.2g} where the budget allows {alpha:.2g}"]
    scans = row.evidence["streams"][0]["scans_between_false_alarms"]
    return [f"  sure    such a stream alarms falsely once in {scans:,} scans; no window yet"]


def _size_line(row: EpisodeRow) -> list[str]:
    """Return how large the shift is, once it was judged."""
    evidence = row.evidence
    if evidence["effect"] is None:
        return []
    effect, least, most = evidence["effect"]
    ordinary = evidence["ordinary_effect"]
    beyond = f"; ordinary weeks reach {ordinary:.2f}" if ordinary is not None else ""
    if effect == 0:
        beyond += ", so what moved is not the mean"
    return [
        f"  size    {effect:.2f} ({least:.2f}–{most:.2f}) standard deviations{beyond}; this "
        f"window shows shifts from {evidence['smallest_effect']:.2f} on"
    ]


def _estimate_line(row: EpisodeRow) -> list[str]:
    """Return what is estimated without labels, until labels say it better."""
    from api.pages.estimated import estimate_in_words

    words = estimate_in_words(row)
    return [] if words is None else [f"  expect  {words}"]


def _subgroup_lines(subgroups: list[dict[str, Any]]) -> list[str]:
    """Return the subgroups that moved, and how many did not."""
    moved = [one for one in subgroups if one["moved"]]
    if not moved:
        return []
    rows = [
        [
            one["subgroup"],
            one["scans"],
            f"{one['adjusted_p_value']:.2g}",
            f"{one['effect']:.2f}",
            one["compared_with"] or "all scans",
        ]
        for one in moved[:MOST_SUBGROUPS]
    ]
    header = ["moved", "scans", "adjusted p", "effect", "against the past of"]
    more = len(moved) - len(rows)
    still = len(subgroups) - len(moved)
    counted = (
        f"{still} of {len(subgroups)} tested subgroups did not move"
        if still
        else f"no tested subgroup of {len(subgroups)} stood still"
    )
    return [
        "",
        *[f"  {line}" for line in table(rows, header=header)],
        f"  {f'{more} more moved; ' if more > 0 else ''}{counted}",
    ]


def describe(row: EpisodeRow) -> dict[str, Any]:
    """Return an episode as JSON."""
    from monitor.episodes.first_steps import first_steps

    return {
        "episode": row.id,
        "monitor": row.monitor,
        "state": row.state,
        "cause": row.cause,
        "subgroup": row.subgroup,
        "impact": row.impact,
        "onset": row.onset,
        "opened_at": row.opened_at,
        "closed_at": row.closed_at,
        "closed_reason": row.closed_reason,
        "p_value": row.p_value,
        "effect": row.effect,
        "evidence": row.evidence,
        "heaviest_scans": row.heaviest,
        "first_steps": list(first_steps(row)),
    }
