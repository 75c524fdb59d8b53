"""What to look at first, by the cause of an episode, for whoever was woken by its alarm."""

from __future__ import annotations

from monitor.episodes.causes import Cause
from monitor.tables import EpisodeRow

_STEPS: dict[Cause, tuple[str, ...]] = {
    Cause.ACQUISITION: (
        "ask radiography or the service log whether the scanner, its software, its protocol "
        "or its dose was changed at the onset",
        "have the change undone if it was not meant, and keep the model restricted there until "
        "it is",
    ),
    Cause.PIPELINE: (
        "ask PACS whether a router, a compression or an export of this site was changed at the "
        "onset",
        "compare a heavy scan with the same one in PACS",
    ),
    Cause.TECHNICAL: (
        "open the heaviest scans beside ordinary ones: a change of the images may be seen in them",
        "ask radiography and PACS what was changed at the onset: pixels cannot tell which",
    ),
    Cause.PREVALENCE: (
        "check PPV and workload at the present threshold: they follow prevalence",
        "ask the referring departments what changed; the model itself may still be right",
    ),
    Cause.CASE_MIX: (
        "open the heaviest scans and ask for the severity or subtypes that came",
        "have a sample of them labelled first: sensitivity may have moved",
    ),
    Cause.POPULATION: (
        "compare age, sex and referring site of the heaviest scans with the intended use",
        "restrict the model to the patients it was made for if they lie outside",
    ),
    Cause.ROUTING: (
        "open the heaviest scans: they should not have come here at all",
        "ask PACS for the rule that sends them",
    ),
    Cause.PRACTICE: (
        "ask the readers whether a definition or a reporting guide changed at the onset",
    ),
    Cause.MIXED: ("open the heaviest scans, and look at the subgroups that moved one by one",),
    Cause.UNKNOWN: (
        "open the heaviest scans, and look at the subgroups that moved",
        "ask radiography and PACS what was changed at the onset",
    ),
}


def first_steps(row: EpisodeRow) -> tuple[str, ...]:
    """Return what to do first, the most telling step first; nothing once an episode ended."""
    return _STEPS[Cause(row.cause)] if row.closed_at is None else ()
