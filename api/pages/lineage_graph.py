"""The lineage graph: every version, what it was derived from, and the drawing's coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.pages import states, wording
from api.pages.standing import watches_with
from api.pages.states import State
from registry import serving
from registry.versions import VersionRow, ref
from retrain import approvals
from retrain.tables import RunRow

BOX_WIDTH, BOX_HEIGHT = 260, 124
GAP_ACROSS, GAP_DOWN = 76, 24
MARGIN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionNode:
    """One version, with its place in the drawing."""

    name: str
    model: str
    number: int
    tier: str
    state: State
    base: str | None
    run: int | None
    #: what made it, in words
    made: str
    data: str
    approved_by: str
    registered: str
    digest: str
    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """An arrow from a base to a version, as an SVG path."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageGraph:
    """The drawing."""

    nodes: tuple[VersionNode, ...]
    derivations: tuple[Derivation, ...]
    width: int
    height: int
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


def lineage_graph(session: Session) -> LineageGraph:
    """Lay every version out: bases to the left of what was derived from them."""
    versions = session.scalars(select(VersionRow).order_by(VersionRow.id)).all()
    places = _places(versions)
    nodes = {row.id: _node(session, row, *places[row.id]) for row in versions}
    derivations = tuple(
        Derivation(path=_path(nodes[row.base], nodes[row.id]))
        for row in versions
        if row.base is not None
    )
    return LineageGraph(
        nodes=tuple(nodes.values()),
        derivations=derivations,
        width=max((node.x + BOX_WIDTH for node in nodes.values()), default=0) + MARGIN,
        height=max((node.y + BOX_HEIGHT for node in nodes.values()), default=0) + MARGIN,
    )


def _places(versions: Sequence[VersionRow]) -> dict[int, tuple[int, int]]:
    """Return column and line of each version: a column a derivation, a line a leaf."""
    children: dict[int | None, list[VersionRow]] = {}
    for row in versions:
        children.setdefault(row.base, []).append(row)
    places: dict[int, tuple[int, int]] = {}
    line = 0
    # Depth first; a first child stays on its base's line, each other takes a new one.
    stack = [(row, 0, True) for row in reversed(children.get(None, []))]
    while stack:
        row, column, new_line = stack.pop()
        if new_line and places:
            line += 1
        places[row.id] = (column, line)
        below = children.get(row.id, [])
        stack += [
            (child, column + 1, index > 0) for index, child in reversed(list(enumerate(below)))
        ]
    return places


def _node(session: Session, row: VersionRow, column: int, line: int) -> VersionNode:
    run = session.scalars(select(RunRow).where(RunRow.candidate == row.id)).first()
    scans = sum(data["scans"] for data in row.card.get("training_data", []))
    signed = [
        signature.by
        for signature in (approvals.signatures(session, run.id) if run else [])
        if signature.meaning == approvals.Meaning.APPROVED
    ]
    base = session.get_one(VersionRow, row.base) if row.base is not None else None
    return VersionNode(
        name=str(ref(row)),
        model=row.model,
        number=row.number,
        tier=row.tier,
        state=_state(session, row),
        base=str(ref(base)) if base else None,
        run=run.id if run else None,
        made=f"run {run.id}, {run.strategy}" if run else "imported",
        data=f"{wording.counted(scans, 'scan')} of training data",
        approved_by=f"approved by {', '.join(signed)}" if signed else "no approval recorded",
        registered=wording.moment(row.created_at),
        digest=row.bundle_digest,
        x=MARGIN + column * (BOX_WIDTH + GAP_ACROSS),
        y=MARGIN + line * (BOX_HEIGHT + GAP_DOWN),
    )


def _state(session: Session, row: VersionRow) -> State:
    if serving.deployments_of(session, row):
        return states.RESTRICTED if serving.restrictions(session, row.model) else states.IN_USE
    return states.MONITORING if watches_with(session, row.model) else states.NOT_SERVING


def _path(base: VersionNode, version: VersionNode) -> str:
    start_x, start_y = base.x + BOX_WIDTH, base.y + BOX_HEIGHT // 2
    end_x, end_y = version.x, version.y + BOX_HEIGHT // 2
    middle = (start_x + end_x) // 2
    return f"M {start_x} {start_y} C {middle} {start_y}, {middle} {end_y}, {end_x - 6} {end_y}"
