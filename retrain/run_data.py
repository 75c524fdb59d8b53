"""Which scans a run trains on, chooses by, and is judged on: frozen before it is queued."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import datasets, labels, references
from monitor.assembling.counting import read_as, unit_watched
from monitor.datasets import Purpose
from monitor.monitors import require_monitor
from monitor.subgroups import Subgroup
from monitor.tables import DatasetRow, EpisodeRow, RefusalRow, ScanRow
from registry.errors import InsufficientDataError
from registry.version_units import unit_of
from registry.versions import VersionRow, find
from retrain import runs
from retrain.change_plan import DataRules, Plan, Strategy, labels_train
from retrain.label_rules import LabelRules
from retrain.recipes import Recipe
from retrain.states import RunState
from retrain.strategies.scans import LEAST_TO_ADAPT_TO
from retrain.tables import RunRow

#: Labelled scans by what they are for.
Parts: TypeAlias = dict[Purpose, list[ScanRow]]
#: Scans of a shift that a run adapts to without labels, at most: a larger shift is sampled.
MOST_UNLABELLED = 2000


def labelled_scans(
    session: Session,
    scans: Sequence[ScanRow],
    *,
    task: str,
    rules: LabelRules,
    ai_influenced: bool = False,
) -> list[ScanRow]:
    """Return the scans whose newest label counts under the plan.

    Those whose provenance the plan does not name do not count.

    Parameters
    ----------
    ai_influenced : return the scans whose label an AI influenced instead of the others; these
        may train where the plan says so, and never enter a gate
    """
    known = labels.latest(session, [scan.id for scan in scans])
    found = []
    for scan in scans:
        label = known.get((scan.id, task))
        if (
            label is not None
            and label.ai_influenced == ai_influenced
            and label.provenance in rules.provenance
        ):
            found.append(scan)
    return found


def shifted_scans(
    session: Session, episode: EpisodeRow, model: str, *, labelled: str | None = None
) -> list[ScanRow]:
    """Return the scans that an episode is about: since its onset, of its subgroup.

    Parameters
    ----------
    labelled : a task; only the scans that have a label of it
    """
    refused = select(RefusalRow.scan).where(RefusalRow.model == model)
    unit = unit_watched(session, require_monitor(session, episode.monitor))
    query = select(ScanRow).where(
        ScanRow.arrived_at >= episode.onset, read_as(unit), ScanRow.id.not_in(refused)
    )
    if episode.subgroup is not None:
        query = query.where(Subgroup.parse(episode.subgroup).where())
    if labelled is not None:
        query = query.where(labels.having_label(labelled))
    return list(session.scalars(query.order_by(ScanRow.id)))


def permitted_scans(
    session: Session,
    episode: EpisodeRow,
    model: str,
    rules: DataRules,
    *,
    at: datetime,
    labelled: str | None = None,
) -> list[ScanRow]:
    """Return the scans of a shift from which the plan lets a candidate learn and be judged.

    Takes what `shifted_scans` takes besides.
    """
    since = None if rules.within_days is None else at - timedelta(days=rules.within_days)
    shifted = shifted_scans(session, episode, model, labelled=labelled)
    return [
        scan
        for scan in _of_permitted_sites(shifted, rules)
        if since is None or scan.arrived_at >= since
    ]


def _of_permitted_sites(scans: Sequence[ScanRow], rules: DataRules) -> list[ScanRow]:
    return [scan for scan in scans if rules.sites is None or scan.site in rules.sites]


def freeze_first_version(
    session: Session,
    run: RunRow,
    recipe: Recipe,
    plan: Plan,
    *,
    since: datetime | None,
    until: datetime | None,
    actor: str,
    at: datetime,
) -> None:
    """Freeze the data of a model's first version, out of the labelled history of its sites.

    Raises
    ------
    InsufficientDataError
        If fewer labelled scans exist than the plan asks for.
    """
    unit = unit_of(find(session, recipe.base))
    query = (
        select(ScanRow)
        .where(ScanRow.site.in_(recipe.sites), read_as(unit))
        .order_by(ScanRow.id)
    )
    if since is not None:
        query = query.where(ScanRow.arrived_at >= since)
    if until is not None:
        query = query.where(ScanRow.arrived_at < until)
    scans = labelled_scans(
        session, list(session.scalars(query)), task=recipe.task, rules=plan.labels
    )
    require_enough(scans, needed=plan.labels.at_least)
    shares = {
        Purpose.TRAINING: recipe.training_share,
        Purpose.SELECTION: recipe.selection_share,
        Purpose.LOCKED_REFERENCE: recipe.locked_share,
    }
    shares[Purpose.REFERENCE] = 1 - sum(shares.values())
    parts = datasets.split_by_patient(scans, shares, salt=f"{recipe.model}/first")
    run.datasets = {
        purpose.value: datasets.freeze(
            session,
            parts[purpose],
            purpose=purpose,
            description=f"{', '.join(recipe.sites)}: history, {purpose.value}",
            actor=actor,
            at=at,
        ).id
        for purpose in (Purpose.TRAINING, Purpose.SELECTION, Purpose.LOCKED_REFERENCE)
    }


def census_parts(
    session: Session,
    run: RunRow,
    episode: EpisodeRow,
    plan: Plan,
    *,
    task: str,
    at: datetime,
) -> Parts:
    """Split all labels of a shift, by patient, into training, selection and a locked set.

    Where no label trains, all of them judge or choose.

    Raises
    ------
    InsufficientDataError
        If fewer labelled scans of the shift exist than the plan asks for.
    """
    shifted = permitted_scans(session, episode, run.model, plan.data, at=at, labelled=task)
    scans = labelled_scans(session, shifted, task=task, rules=plan.labels)
    some_train = labels_train(runs.strategies_of(run))
    require_enough(scans, needed=plan.labels.needed(labels_train=some_train))
    locked, selection = plan.labels.locked_share, plan.labels.selection_share
    used = 1.0 if some_train else locked + selection
    parts = datasets.split_by_patient(
        scans,
        {
            Purpose.LOCKED_DRIFTED: locked / used,
            Purpose.SELECTION: selection / used,
            Purpose.TRAINING: 1 - (locked + selection) / used,
        },
        salt=f"{run.model}/episode {episode.id}",
    )
    if some_train and plan.labels.ai_influenced_may_train:
        apart = patients_of(parts[Purpose.LOCKED_DRIFTED])
        apart |= patients_of(parts[Purpose.SELECTION])
        parts[Purpose.TRAINING] += without(
            apart,
            labelled_scans(session, shifted, task=task, rules=plan.labels, ai_influenced=True),
        )
    return parts


def freeze_repair(
    session: Session,
    run: RunRow,
    episode: EpisodeRow,
    plan: Plan,
    parts: Parts,
    *,
    actor: str,
    at: datetime,
) -> None:
    """Freeze the data of a run that repairs a shift.

    The base's own training data are mixed in against forgetting; the locked
    reference set is the one that the model's first version had. A run that may
    adapt without labels gets the other scans of the shift, too.

    Parameters
    ----------
    parts : labelled scans of the shift, no patient in two of them

    Raises
    ------
    InsufficientDataError
        If a part is empty, or there are too few scans to adapt to.
    """
    first = first_run(session, run.model)
    # Patients come again: who trained the base judges no candidate, and who judges trains none.
    base = session.get_one(VersionRow, run.base)
    parts = {**parts}
    parts[Purpose.LOCKED_DRIFTED] = references.eligible(
        session, parts[Purpose.LOCKED_DRIFTED], [base]
    )
    judging = patients_of(datasets.members(session, first.datasets[Purpose.LOCKED_REFERENCE]))
    for purpose in (Purpose.SELECTION, Purpose.TRAINING):
        parts[purpose] = without(judging, parts[purpose])
    adapted_to = _unlabelled(session, run, episode, plan, parts, judging=judging, at=at)
    if adapted_to:
        parts[Purpose.UNLABELLED] = adapted_to
    if not labels_train(runs.strategies_of(run)):
        parts[Purpose.TRAINING] = []
    labelled = bool(parts[Purpose.TRAINING])
    replay = _drawn(
        without(
            patients_of(parts[Purpose.SELECTION]),
            _of_permitted_sites(
                datasets.members(session, first.datasets[Purpose.TRAINING]), plan.data
            ),
        ),
        # Without labels, scans are replayed for those that are adapted to.
        round(plan.training.replay_ratio * len(parts[Purpose.TRAINING] or adapted_to)),
        seed=run.seed,
    )
    parts[Purpose.TRAINING] += replay
    parts[Purpose.SELECTION] += _drawn(
        without(
            patients_of(parts[Purpose.TRAINING]) | patients_of(adapted_to),
            _of_permitted_sites(
                datasets.members(session, first.datasets[Purpose.SELECTION]), plan.data
            ),
        ),
        len(parts[Purpose.SELECTION]),
        seed=run.seed,
    )
    shift, replayed = f"shift of episode {episode.id}", f"{len(replay)} scans replayed"
    descriptions = {
        Purpose.TRAINING: f"{shift} with {replayed}" if labelled else replayed,
        Purpose.SELECTION: f"{shift} with as many scans replayed",
        Purpose.LOCKED_DRIFTED: f"{shift}, held out",
        Purpose.UNLABELLED: f"{shift}, no label looked at",
    }
    frozen = {
        purpose.value: datasets.freeze(
            session,
            parts[purpose],
            purpose=purpose,
            description=description,
            actor=actor,
            at=at,
        ).id
        for purpose, description in descriptions.items()
        if purpose in parts
    }
    run.datasets = {
        **frozen,
        Purpose.LOCKED_REFERENCE.value: first.datasets[Purpose.LOCKED_REFERENCE],
    }


def _unlabelled(
    session: Session,
    run: RunRow,
    episode: EpisodeRow,
    plan: Plan,
    parts: Parts,
    *,
    judging: set[str],
    at: datetime,
) -> list[ScanRow]:
    """Return the scans of a shift that a run may adapt to without labels; none if it may not.

    They are of patients who judge and choose nothing. Those that train by their label are
    left out, as long as any does.

    Raises
    ------
    InsufficientDataError
        If there are too few for a run that can do nothing else.
    """
    strategies = runs.strategies_of(run)
    if Strategy.SELF_SUPERVISED not in strategies:
        return []
    apart = judging | patients_of(parts[Purpose.LOCKED_DRIFTED])
    apart |= patients_of(parts[Purpose.SELECTION])
    some_train = labels_train(strategies)
    taught = {scan.id for scan in parts[Purpose.TRAINING]} if some_train else set()
    shifted = permitted_scans(session, episode, run.model, plan.data, at=at)
    left = [scan for scan in without(apart, shifted) if scan.id not in taught]
    if not some_train and len(left) < LEAST_TO_ADAPT_TO:
        raise InsufficientDataError(
            what="scans of the shift to adapt to, of patients who judge nothing",
            needed=LEAST_TO_ADAPT_TO,
            got=len(left),
        )
    return _drawn(left, MOST_UNLABELLED, seed=run.seed)


def first_run(session: Session, model: str) -> RunRow:
    """Return the run that made a model's first version.

    Raises
    ------
    InsufficientDataError
        If the model was imported whole: its training data were never here.
    """
    row = session.scalars(
        select(RunRow)
        .where(
            RunRow.model == model,
            RunRow.episode.is_(None),
            RunRow.state == RunState.PROMOTED,
        )
        .order_by(RunRow.id)
    ).first()
    if row is None:
        raise InsufficientDataError(
            what=f"locked reference sets of {model}, which a first run would have made",
            needed=1,
            got=0,
        )
    return row


def locked_dataset(session: Session, run: RunRow, purpose: Purpose) -> DatasetRow | None:
    """Return one of a run's locked sets, if it has it."""
    dataset = run.datasets.get(purpose.value)
    return session.get_one(DatasetRow, dataset) if dataset is not None else None


def patients_of(scans: Sequence[ScanRow]) -> set[str]:
    """Return whose scans these are."""
    return {scan.person for scan in scans}


def without(patients: set[str], scans: Sequence[ScanRow]) -> list[ScanRow]:
    """Return the scans of all other patients."""
    return [scan for scan in scans if scan.person not in patients]


def _drawn(scans: list[ScanRow], count: int, *, seed: int) -> list[ScanRow]:
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(scans))[:count]
    return [scans[index] for index in sorted(chosen)]


def require_enough(scans: Sequence[ScanRow], *, needed: int) -> None:
    """Refuse fewer labelled scans than the plan asks for.

    Raises
    ------
    InsufficientDataError
    """
    if len(scans) < needed:
        raise InsufficientDataError(
            what="labelled scans whose provenance the plan accepts",
            needed=needed,
            got=len(scans),
        )
