"""What the keys of a new plan must say together, beyond each by itself, to be meant.

A plan in force is not held to it: what it says stays readable for good.
"""

from __future__ import annotations

from collections.abc import Sequence

from monitor.intake.codes import SEXES
from monitor.subgroups import AGE_BANDS, Attribute
from registry.identities import Role
from registry.yaml_files import MisfitError
from retrain.gates.limits import GateLimits, Subgroup
from retrain.gates.outcome import Gate

#: Without these a candidate could pass that was judged on its own training patients, on labels
#: that an AI influenced, or that harms where nothing had drifted.
ALWAYS_REQUIRED = (Gate.NON_INFERIORITY, Gate.PATIENTS, Gate.PROVENANCE)

#: Attributes of which all values are known beforehand.
_VALUES = {Attribute.SEX: sorted(SEXES), Attribute.AGE_BAND: list(AGE_BANDS)}


def require_meant(
    *,
    required: Sequence[Gate],
    people_decide: Sequence[Gate],
    limits: GateLimits,
    signer: Role,
    promotes: bool,
) -> None:
    """Refuse a plan that leaves out what no plan may, contradicts itself, or cannot be meant.

    Parameters
    ----------
    required, people_decide, limits : of its gates
    signer : who approves
    promotes : its authority lets a candidate be promoted

    Raises
    ------
    MisfitError
        With the key.
    """
    missing = [gate.value for gate in ALWAYS_REQUIRED if gate not in required]
    if missing and promotes:
        raise MisfitError(
            f"lacks {', '.join(missing)}, without which no candidate may be promoted: add what is "
            "missing",
            *("gates", "required"),
        )
    if signer not in {Role.APPROVER, Role.ADMIN}:
        raise MisfitError(f"{signer.value} signs nothing: name approver", "approval", "role")
    if Gate.SUBGROUPS in required and not limits.subgroups.declared:
        raise MisfitError(
            f"none is declared, and the gate {Gate.SUBGROUPS.value} is required: declare some, or "
            "do not require it",
            *("gates", "limits", "subgroups", "declared"),
        )
    for place, gate in enumerate(people_decide):
        if gate not in required:
            raise MisfitError(
                f"{gate.value} is not required, so there is nothing to decide: require it, or "
                "leave it out here",
                *("gates", "people_decide", place),
            )
    _require_limits(limits)
    for place, subgroup in enumerate(limits.subgroups.declared):
        wrong = _why_none(subgroup)
        if wrong is not None:
            raise MisfitError(wrong, "gates", "limits", "subgroups", "declared", place)


def _require_limits(limits: GateLimits) -> None:
    """Refuse limits that no evidence could meet, or whose computation would not end."""
    for value, most, key in (
        (limits.subgroups.minimum, 1_000_000, ("subgroups", "minimum")),
        (limits.calibration.bins, 1000, ("calibration", "bins")),
        (limits.calibration.resamples, 100_000, ("calibration", "resamples")),
        (limits.calibration.seed, 2**32 - 1, ("calibration", "seed")),
    ):
        if value > most:
            raise MisfitError(f"at most {most:,} can be meant", "gates", "limits", *key)


def _why_none(subgroup: Subgroup) -> str | None:
    """Return why no scan could belong to a declared subgroup; None if one could."""
    if subgroup.attribute not in set(Attribute):
        return f"{subgroup.attribute} is no attribute of a scan: name one of {', '.join(Attribute)}"
    known = _VALUES.get(Attribute(subgroup.attribute))
    if known is not None and subgroup.value not in known:
        return (
            f"no scan has the {subgroup.attribute} {subgroup.value!r}: name one of "
            f"{', '.join(known)}"
        )
    return None if subgroup.value.strip() else f"the value of {subgroup.attribute} is blank"
