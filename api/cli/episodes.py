"""`driftward episode …`: what people are alerted to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from api.cli.options import HomeOption, JsonOption, ReasonOption, opened, show, table

if TYPE_CHECKING:
    from monitor.tables import EpisodeRow

app = typer.Typer(name="episode", help="See shifts, from opening to closing.")


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List episodes, newest first."""
    from monitor.episodes import all_episodes

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
def show_(episode: int, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one episode: what, where, since when, whether it matters, what was done."""
    from monitor.episodes import require_episode
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
        f"episode {row.id} of {row.monitor}: {row.state}",
        f"cause   {row.cause}",
        f"where   {row.subgroup or 'all scans'}",
        f"since   {row.onset:%Y-%m-%d %H:%M} UTC, seen {row.opened_at:%Y-%m-%d %H:%M} UTC",
        f"impact  {row.impact}{_impact_words(row)}",
        f"effect  {row.effect:.2f}, p = {row.p_value:.2g}",
        "why",
        *[f"  - {reason}" for reason in row.evidence["diagnosis"]["reasons"]],
        "done" if made else "nothing was decided yet",
        *[
            f"  - {decision.action}{'' if decision.carried_out else ' (proposed)'}: "
            f"{decision.reason}"
            for decision in made
        ],
    ]
    if row.closed_reason:
        lines.append(f"ended   {row.closed_at:%Y-%m-%d %H:%M} UTC: {row.closed_reason}")
    show(document, as_json=as_json, lines=lines)


@app.command("close")
def close(
    episode: int, reason: ReasonOption, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Close an episode by hand, with a reason."""
    from monitor import episodes
    from monitor.episodes import EpisodeState
    from registry.identities import Role

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "close an episode")
    with driftward.database.transaction() as session:
        row = episodes.require_episode(session, episode)
        episodes.end(
            session,
            row,
            EpisodeState.CLOSED,
            reason=reason,
            actor=by.name,
            at=driftward.clock.now(),
        )
        document = describe(row)
    show(document, as_json=as_json, lines=[f"episode {episode} is closed: {reason}"])


def describe(row: EpisodeRow) -> dict[str, Any]:
    """Return an episode as JSON."""
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
    }


def _impact_words(row: EpisodeRow) -> str:
    measured = row.evidence.get("impact")
    if not measured:
        return ""
    falls = ", ".join(
        f"{fall['measure']} {fall['before']:.2f} → {fall['after']:.2f}"
        for fall in measured["falls"]
    )
    return f" on {measured['scans']} labelled scans: {falls or 'no measure fell'}"
