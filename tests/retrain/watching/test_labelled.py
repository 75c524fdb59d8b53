"""Which labels a watch looks at where a request drew some of the scans."""

from __future__ import annotations

import numpy as np
from retraining_rows import MODEL, TASK
from watched_rows import Watched

from monitor.requests.tables import LabelRequestItemRow, LabelRequestRow, Part
from retrain import plans
from retrain.watching.labelled import labelled_in_use

STRATA = [
    {"name": "far", "patients": 90, "drawn": 10, "kept": 10},
    {"name": "near the threshold", "patients": 10, "drawn": 10, "kept": 10},
]


def request(watched: Watched, parts: dict[int, tuple[Part, int | None]]) -> None:
    """Let a request have drawn scans: scan -> its part and stratum."""
    episode = watched.retraining.open_episode()
    with watched.database.transaction() as session:
        row = LabelRequestRow(
            run=watched.run,
            number=1,
            episode=episode,
            model=MODEL,
            task=TASK,
            state="open",
            seed=0,
            frame_digest="frame",
            strata=STRATA,
            equal_chance=0.1,
            terms={},
            made_at=watched.retraining.now,
            made_by="test",
            ended_at=None,
            ended_reason=None,
        )
        session.add(row)
        session.flush()
        session.add_all(
            LabelRequestItemRow(
                batch=1,
                request=row.id,
                scan=scan,
                part=part.value,
                stratum=stratum,
                place=place,
                chance=None,
            )
            for place, (scan, (part, stratum)) in enumerate(parts.items())
        )


def test_scans_drawn_for_gates_weigh_their_inverse_chance_and_training_s_are_left_out(
    watched: Watched,
) -> None:
    watched.apply_plan()
    watched.promote()
    scans = watched.read(ill=6, found=6, well=4, cleared=4)
    far, near, chosen, trained, by_itself = scans[:5]
    request(
        watched,
        {
            far: (Part.GATE, 0),
            near: (Part.GATE, 1),
            chosen: (Part.SELECTION, 0),
            trained: (Part.TRAINING, None),
        },
    )
    watched.retraining.clock.at += (watched.row().until - watched.row().since) / 28
    with watched.database.reading() as session:
        results = labelled_in_use(
            session,
            watched.row(),
            task=TASK,
            rules=plans.require_plan(session, MODEL).plan.labels,
            at=watched.retraining.now,
        )
    assert results is not None
    assert results.weights is not None
    assert len(results.truth) == len(scans) - 1
    weights = dict(
        zip([scan for scan in scans if scan != trained], results.weights, strict=True)
    )
    # Ten of ninety, and ten of ten; on average a request's labels weigh what others do.
    assert weights[far] / weights[near] == 9.0
    assert weights[far] / weights[by_itself] == 9 / 5
    assert weights[chosen] == weights[by_itself]
    assert np.isclose(results.weights.sum(), len(results.truth))
