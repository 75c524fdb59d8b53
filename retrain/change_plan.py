"""What a change plan says: on whose authority, how, and within which limits a model may change.

Unknown keys are errors that name the key, and no key that is left out permits
more than the file says: without an authority a model is locked, and without
limits the narrow ones that stand here hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import floor
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from monitor.episodes.causes import Cause
from registry.errors import InsufficientDataError, PlanError
from registry.identities import Role
from registry.serving import EVERYWHERE
from registry.yaml_files import MisfitError, held_strictly, read_specification
from retrain.gates.limits import GateLimits
from retrain.gates.outcome import Gate, Outcome
from retrain.label_arithmetic import label_needs
from retrain.label_rules import Fraction, LabelRules, LabelSample, PlanPart
from retrain.plan_sense import require_meant
from retrain.plan_values import ONCE, ModelName, Stated, at_most
from retrain.watching.rules import WatchRules


class Authority(StrEnum):
    """On whose authority a model may be changed at all."""

    NONE = "none"
    RESEARCH = "research"
    IN_HOUSE = "in-house"
    PCCP = "pccp"


class Autonomy(StrEnum):
    """What may happen without a person."""

    OBSERVE = "observe"
    PROPOSE = "propose"
    ACT = "act"


class Strategy(StrEnum):
    """How a candidate is made, the least invasive first."""

    RECALIBRATION = "recalibration"
    LINEAR_PROBE = "linear probe"
    LORA = "LoRA"
    SELF_SUPERVISED = "self-supervised adaptation"
    FULL = "full fine-tuning"


class LoraLayers(StrEnum):
    """Which layers of a transformer get a low-rank update."""

    ATTENTION = "attention"
    LINEAR = "linear"
    ALL = "all"


def as_several(value: object) -> object:
    """Read one strategy as a list of one, and `none` as no strategy."""
    if value == "none":
        return ()
    return (value,) if isinstance(value, str) else value


#: Strategies that a cause permits; the file may name one, several, or none.
Permitted = Annotated[tuple[Strategy, ...], BeforeValidator(as_several), ONCE]


class DataRules(PlanPart):
    """From which scans a candidate may learn and be judged."""

    #: sites whose scans may be used; all where it is left out
    sites: Annotated[list[Stated], Field(min_length=1), ONCE] | None = None
    #: age of the oldest scan of a shift, in days before the run is queued
    within_days: Annotated[float, Field(gt=0), at_most(36_600)] | None = None


class CandidateRules(PlanPart):
    """One attempt of a run: what it does otherwise than `training` says."""

    strategy: Strategy | None = None
    epochs: Annotated[int, Field(ge=1, le=500)] | None = None
    batch_size: Annotated[int, Field(ge=2), at_most(65_536)] | None = None
    encoder_rate: Annotated[float, Field(gt=0), at_most(10)] | None = None
    head_rate: Annotated[float, Field(gt=0), at_most(10)] | None = None
    weight_decay: Annotated[float, Field(ge=0), at_most(10)] | None = None
    frozen_share: Fraction | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    lora_rank: Annotated[int, Field(ge=1, le=256)] | None = None
    lora_alpha: Annotated[float, Field(gt=0), at_most(10_000)] | None = None
    lora_layers: LoraLayers | None = None
    adaptation_epochs: Annotated[int, Field(ge=1, le=500)] | None = None
    patience: Annotated[int, Field(ge=1), at_most(500)] | None = None


class TrainingRules(PlanPart):
    """How a candidate is trained; part of the plan, so that its digest covers it."""

    epochs: Annotated[int, Field(ge=1, le=500)]
    batch_size: Annotated[int, Field(ge=2), at_most(65_536)]
    #: AdamW learning rates: the encoder's is the smaller one
    encoder_rate: Annotated[float, Field(gt=0), at_most(10)]
    head_rate: Annotated[float, Field(gt=0), at_most(10)]
    weight_decay: Annotated[float, Field(ge=0), at_most(10)]
    #: share of the encoder's layers, from the input on, that stay as they are
    frozen_share: Fraction
    #: scans of the base's own training data mixed in for each scan of the shift
    replay_ratio: Annotated[float, Field(ge=0), at_most(100)]
    #: by which the encoder's rate shrinks from one layer to the one below it
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    #: rank and scale of the low-rank updates, for LoRA
    lora_rank: Annotated[int, Field(ge=1, le=256)] = 8
    lora_alpha: Annotated[float, Field(gt=0), at_most(10_000)] = 16.0
    #: the attention's projections, every linear layer, or the embedding of patches, too
    lora_layers: LoraLayers = LoraLayers.ATTENTION
    #: epochs on scans without labels, for self-supervised adaptation
    adaptation_epochs: Annotated[int, Field(ge=1, le=500)] = 5
    #: epochs without an improvement on the selection set after which training ends
    patience: Annotated[int, Field(ge=1), at_most(500)] | None = None
    #: bfloat16 where the device has it
    mixed_precision: bool = False
    #: attempts of one run, compared on the selection set; one as it stands here if empty
    candidates: Annotated[list[CandidateRules], Field(max_length=16), ONCE] = Field(
        default_factory=list
    )


class GateRules(PlanPart):
    """Which gates a candidate must pass, and their limits."""

    required: Annotated[list[Gate], Field(min_length=1), ONCE]
    limits: GateLimits
    #: how often one locked set may judge
    locked_set_uses: Annotated[int, Field(ge=1), at_most(1000)]
    #: what the AUC of a model's first version must be shown to reach
    first_version_auc: Fraction
    #: gates that, not evaluable, are left to the people who sign
    people_decide: Annotated[list[Gate], ONCE] = Field(default_factory=list)

    def refuses(self, name: str, outcome: Outcome) -> bool:
        """Return whether a gate's outcome keeps a candidate from promotion."""
        return outcome is not Outcome.PASSED and not self.leaves_to_people(name, outcome)

    def leaves_to_people(self, name: str, outcome: Outcome) -> bool:
        """Return whether the evidence could not decide, and whoever signs must."""
        return outcome is Outcome.NOT_EVALUABLE and name in self.people_decide


#: Gates whose question a person can answer otherwise. What a change is for, that it harms nobody
#: on the reference, and what it rests on, must be shown.
_OPEN_TO_PEOPLE = (
    Gate.SUBGROUPS,
    Gate.CLASSES,
    Gate.CALIBRATION,
    Gate.ROBUSTNESS,
    Gate.DEPLOYMENT,
)

#: What gates that a plan may leave out are held to.
_LIMITS_OF = {
    Gate.ROBUSTNESS: ("robustness",),
    Gate.DEPLOYMENT: ("latency_ratio", "bundle_megabytes"),
}


class ApprovalRules(PlanPart):
    """Who must sign."""

    people: Annotated[int, Field(ge=1), at_most(20)]
    role: Role = Role.APPROVER
    #: days after which a signature no longer counts
    expires_days: Annotated[float, Field(gt=0), at_most(3660)] = 30.0


class ChangeLimits(PlanPart):
    """How often, for how much, and how far a model may change; a quarter is 90 days."""

    days_between_promotions: Annotated[float, Field(ge=0), at_most(3660)] = 30.0
    runs_per_quarter: Annotated[int, Field(ge=0), at_most(1000)] = 3
    #: hours of training, on whatever device
    compute_hours_per_quarter: Annotated[float, Field(ge=0), at_most(100_000)] = 24.0
    #: promotions since a person last reviewed the model as a whole
    promotions_since_review: Annotated[int, Field(ge=0), at_most(1000)] = 3


class StopRules(PlanPart):
    """After what nothing more is begun until a person has reviewed the model."""

    #: runs that ended rejected or failed, one after another
    unsuccessful_runs: Annotated[int, Field(ge=1), at_most(1000)] = 2
    #: champions that were rolled back
    rollbacks: Annotated[int, Field(ge=1), at_most(1000)] = 1


class StageRules(PlanPart):
    """Sites at which a new version serves before it does elsewhere, and for how long at least."""

    sites: Annotated[list[Stated], Field(min_length=1)]
    days: Annotated[float, Field(gt=0), at_most(366)]
    #: least scans of these sites that it must have read meanwhile
    scans: Annotated[int, Field(ge=0), at_most(10_000_000)] = 0


class Plan(PlanPart):
    """A change plan as it stands in its file."""

    model: Annotated[ModelName, Field(min_length=1)]
    authority: Authority = Authority.NONE
    #: the PCCP's number; required with that authority
    authority_number: Stated | None = None
    autonomy: Autonomy
    #: causes that permit a modification, and which
    modifications: dict[Cause, Permitted]
    #: causes on which the model is restricted for the subgroup at once
    restrict_on: Annotated[list[Cause], ONCE]
    data: DataRules = DataRules()
    labels: LabelRules
    training: TrainingRules
    gates: GateRules
    limits: ChangeLimits = ChangeLimits()
    stop_rules: StopRules = StopRules()
    approval: ApprovalRules
    shadow_days: Annotated[float, Field(ge=0), at_most(366)]
    #: least scans that candidate and champion both read meanwhile
    shadow_scans: Annotated[int, Field(ge=0), at_most(10_000_000)] = 0
    #: of the first weeks after a promotion; without it nobody watches them
    watch: WatchRules | None = None
    #: where a promotion goes first, one stage after the other, before everywhere
    stages: Annotated[list[StageRules], Field(max_length=16)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_meant(self, info: ValidationInfo) -> Self:
        if held_strictly(info):
            require_meant(
                required=self.gates.required,
                people_decide=self.gates.people_decide,
                limits=self.gates.limits,
                signer=self.approval.role,
                promotes=self.authority is not Authority.NONE,
            )
        return self

    @model_validator(mode="after")
    def _authority_is_numbered(self, info: ValidationInfo) -> Self:
        if self.authority is Authority.PCCP and not self.authority_number:
            raise MisfitError(
                "pccp needs authority_number, the authorised plan's number", "authority"
            )
        numbered = self.authority in {Authority.PCCP, Authority.IN_HOUSE}
        if self.authority_number and not numbered and held_strictly(info):
            raise MisfitError(
                f"a number is of an authorised plan, and the authority is {self.authority.value}: "
                "name that authority, or leave the number out",
                "authority_number",
            )
        return self

    @model_validator(mode="after")
    def _stages_are_of_different_sites(self) -> Self:
        seen: set[str] = set()
        for number, stage in enumerate(self.stages):
            for site in stage.sites:
                if site == EVERYWHERE:
                    raise MisfitError(
                        "everywhere is where the last stage ends, by itself: leave it out",
                        *("stages", number, "sites"),
                    )
                if site in seen:
                    raise MisfitError(
                        f"{site} stands in two places: a version reaches a site once",
                        *("stages", number, "sites"),
                    )
                seen.add(site)
        return self

    @model_validator(mode="after")
    def _shadow_takes_time(self) -> Self:
        if self.shadow_scans and not self.shadow_days:
            raise MisfitError(
                f"{self.shadow_scans} scans in shadow take a shadow_days above 0: set both, or "
                "neither",
                "shadow_scans",
            )
        return self

    @model_validator(mode="after")
    def _training_serves_what_is_permitted(self) -> Self:
        permitted = dict.fromkeys(s for some in self.modifications.values() for s in some)
        if Strategy.SELF_SUPERVISED in permitted and not self.training.replay_ratio:
            raise MisfitError(
                f"0 leaves {Strategy.SELF_SUPERVISED.value}, which modifications permits, no scan "
                "of the reference to hold on to: raise it, or do not permit that",
                *("training", "replay_ratio"),
            )
        for strategy in permitted:
            if not attempts(self.training, [strategy]):
                raise MisfitError(
                    f"none is left for {strategy.value}, which modifications permits: add one, "
                    "or one that names no strategy",
                    *("training", "candidates"),
                )
        return self

    @model_validator(mode="after")
    def _people_decide_what_is_open_to_them(self) -> Self:
        for gate in self.gates.people_decide:
            if gate not in _OPEN_TO_PEOPLE:
                raise MisfitError(
                    f"{gate.value} must be shown, and cannot be left to people; these can: "
                    + ", ".join(one.value for one in _OPEN_TO_PEOPLE),
                    *("gates", "people_decide"),
                )
        return self

    @model_validator(mode="after")
    def _can_be_satisfied(self) -> Self:
        locked, selection = self.labels.locked_share, self.labels.selection_share
        if locked + selection >= 1:
            raise MisfitError(
                f"{locked:g}, with a selection_share of {selection:g}, leaves no patient to "
                "train on: together they must stay below 1",
                *("labels", "locked_share"),
            )
        for gate, keys in _LIMITS_OF.items():
            for key in keys:
                if gate in self.gates.required and getattr(self.gates.limits, key) is None:
                    raise MisfitError(
                        f"{key} is missing, and the gate {gate.value} is required: add it",
                        *("gates", "limits"),
                    )
        needed = self.gates.limits.minimum_positives + self.gates.limits.minimum_negatives
        if floor(self.labels.at_least * locked) < needed:
            raise MisfitError(
                f"{self.labels.at_least} labels with a locked_share of {locked:g} give "
                f"{floor(self.labels.at_least * locked)} patients to judge on, and gates.limits "
                f"asks for {needed}: no candidate could ever pass",
                *("labels", "at_least"),
            )
        return self

    @model_validator(mode="after")
    def _labels_can_be_requested(self, info: ValidationInfo) -> Self:
        rules = self.labels.request
        if self.labels.sample is not LabelSample.REQUESTED:
            return self
        if rules is None:
            raise MisfitError(
                "requested needs `request`, what is asked for: its power, gain, discordance and "
                "at_most",
                *("labels", "sample"),
            )
        if not held_strictly(info):
            return self
        # Where the file states no prevalence, one at which fewer patients suffice is looked for.
        states = rules.prevalence is not None
        tried = [rules.prevalence] if rules.prevalence is not None else [0.2, 0.35, 0.5, 0.65]
        refused: list[str] = []
        for prevalence in tried:
            try:
                needs = label_needs(
                    self.labels,
                    self.gates.limits,
                    uses=self.gates.locked_set_uses,
                    prevalence=prevalence,
                    prevalence_of="the plan's" if states else "the most favourable one",
                    at_most=rules.at_most,
                )
            except InsufficientDataError as error:
                refused.append(
                    f"{rules.at_most} patients at most, of whom {error.got} could judge, and it "
                    f"takes about {error.needed} {error.what}."
                )
                continue
            if needs.total <= rules.at_most:
                return self
            refused.append(
                f"{rules.at_most} patients at most, and the power takes {needs.total}. "
                + " ".join(needs.in_words())
            )
        raise MisfitError(
            f"{refused[-1] if states else min(refused, key=len)} No labels could satisfy it: widen "
            "margins, expect a larger gain, or ask for more labels or less power",
            *("labels", "request", "at_most"),
        )

    def permitted(self, cause: Cause) -> tuple[Strategy, ...]:
        """Return which strategies a cause permits, as the plan orders them."""
        return self.modifications.get(cause, ())


def parse_plan(text: str, *, source: str, applied: bool = False) -> Plan:
    """Read a plan.

    Parameters
    ----------
    applied : it was put into force, maybe by a version that was less strict, and stays readable

    Raises
    ------
    PlanError
        Naming the file, the line and the key.
    """
    return read_specification(
        text,
        Plan,
        source=source,
        what="a change plan; see docs/change-plan.md",
        error=PlanError,
        strictly=not applied,
    )


def labels_train(strategies: Sequence[Strategy]) -> bool:
    """Return whether labels of a shift train a run of these strategies.

    Self-supervised adaptation learns from none.
    """
    return set(strategies) != {Strategy.SELF_SUPERVISED}


def attempts(
    training: TrainingRules, strategies: Sequence[Strategy]
) -> list[tuple[Strategy, TrainingRules]]:
    """Return what one run tries: each strategy by each of the candidates that the rules name.

    A candidate that names a strategy belongs to that one alone.
    """
    found: list[tuple[Strategy, TrainingRules]] = []
    for strategy in strategies:
        for rules in training.candidates or [CandidateRules()]:
            if rules.strategy in {None, strategy}:
                changed = rules.model_dump(exclude={"strategy"}, exclude_none=True)
                found.append((strategy, training.model_copy(update=changed)))
    return found
