"""Every error that Driftward raises on purpose, as one tree.

DriftwardError
├── BadInputError                 something handed in cannot be used
│   ├── BundleError               a directory is not a usable bundle
│   │   ├── IncompleteCardError
│   │   └── ParityError           ONNX and torch disagree
│   ├── UnreadableScanError       a file is not a scan (intake quarantines it)
│   ├── PlanError                 a change plan is malformed
│   ├── MonitorSpecError          a monitor's YAML is malformed
│   ├── LabelError                a label cannot be attached
│   ├── CheckpointError           a checkpoint cannot be used
│   └── EmbeddingsError           NaN, wrong shape, another space
│       └── SpaceMismatchError
├── InsufficientDataError
│   └── InsufficientReferenceError
├── NotFoundError                 nothing of that name exists
├── ConflictError                 another change came first
│   ├── StaleChampionError        compare-and-set lost
│   ├── LeaseLostError            a worker was superseded
│   └── TransitionError           the state machine has no such step
├── RefusedError                  a rule forbids it
│   ├── GateRefusedError
│   ├── PlanRefusedError          outside the change plan
│   ├── RecalledError             the version, or one behind it, was recalled
│   ├── RequestRefusedError       the labels that a plan needs cannot be asked for
│   ├── NotPermittedError         the identity lacks the role
│   ├── SignatureRefusedError     a person may not sign this, or not so
│   ├── NotSignedInError          nobody is known to have asked
│   └── TooManyAttemptsError      too many failed sign-ins
├── IntegrityError                stored data disagree with the ledger or a digest
├── SetupError                    the installation or the home cannot be used
│   ├── HomeError
│   │   └── NewerSchemaError
│   ├── PortInUseError
│   ├── CheckpointKeyError     a key of checkpoints is absent, open or of the wrong kind
│   ├── SourceError            scans cannot be had from where they should come
│   ├── TrackingError          MLflow does not do what it was asked
│   └── StorageFullError
└── TrainingFailedError           the training subprocess failed

A message names the thing, the value and the way out. No message carries
patient data: values from a scan never enter one.
"""

from __future__ import annotations


class DriftwardError(Exception):
    """Root of everything that Driftward raises on purpose."""


class BadInputError(DriftwardError):
    """Something handed in cannot be used."""


class BundleError(BadInputError):
    """A directory is not a usable bundle."""


class IncompleteCardError(BundleError):
    """A card lacks what registration requires."""

    def __init__(self, *, path: str, missing: list[str]) -> None:
        super().__init__(
            f"card {path} lacks {', '.join(missing)}: fill these in, then import again"
        )
        self.path, self.missing = path, missing


class ParityError(BundleError):
    """The ONNX graph and the torch model of one bundle disagree."""


class UnreadableScanError(BadInputError):
    """A file is not a scan that can be used; `reason` is a stable code."""

    def __init__(self, *, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class PlanError(BadInputError):
    """A change plan is malformed."""


class MonitorSpecError(BadInputError):
    """A monitor's specification is malformed."""


class LabelError(BadInputError):
    """A label cannot be attached to a scan; `problem` is a stable code."""

    def __init__(self, message: str, *, problem: str = "malformed", place: str = "") -> None:
        super().__init__(message)
        self.problem, self.place = problem, place


class CheckpointError(BadInputError):
    """A checkpoint cannot be used; `problem` is a stable code."""

    def __init__(self, message: str, *, problem: str) -> None:
        super().__init__(message)
        self.problem = problem


class EmbeddingsError(BadInputError):
    """Embeddings are not finite, not two-dimensional, or degenerate."""


class SpaceMismatchError(EmbeddingsError):
    """Two embedding spaces would be compared."""


class InsufficientDataError(DriftwardError):
    """Too few units to say anything."""

    def __init__(self, *, what: str, needed: int, got: int) -> None:
        super().__init__(f"{what}: need at least {needed}, got {got}")
        self.what, self.needed, self.got = what, needed, got


class InsufficientReferenceError(InsufficientDataError):
    """A reference is too small for a calibrated profile."""


class NotFoundError(DriftwardError):
    """Nothing of that name exists."""


class ConflictError(DriftwardError):
    """Another change came first."""


class StaleChampionError(ConflictError):
    """The champion is no longer the one that was expected."""


class LeaseLostError(ConflictError):
    """A worker's lease ran out and another took the job."""


class TransitionError(ConflictError):
    """The state machine has no such step."""


class RefusedError(DriftwardError):
    """A rule forbids it."""


class GateRefusedError(RefusedError):
    """A gate refused a candidate."""


class PlanRefusedError(RefusedError):
    """The change plan does not permit it."""


class RecalledError(RefusedError):
    """A version, or one that it was derived from, was recalled."""


class RequestRefusedError(RefusedError):
    """The labels that a plan needs cannot be asked for; the message has the arithmetic."""


class NotPermittedError(RefusedError):
    """The identity lacks the role."""


class SignatureRefusedError(RefusedError):
    """A signature that may not be given; `why` is a stable code."""

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


class NotSignedInError(RefusedError):
    """Nobody is known to have asked; `why` is a stable code."""

    def __init__(self, message: str, *, why: str = "nobody") -> None:
        super().__init__(message)
        self.why = why


class TooManyAttemptsError(RefusedError):
    """Too many sign-ins failed."""

    def __init__(self, message: str, *, seconds: int) -> None:
        super().__init__(message)
        #: after which it may be tried again
        self.seconds = seconds


class IntegrityError(DriftwardError):
    """Stored data disagree with a digest or with the ledger."""


class SetupError(DriftwardError):
    """The installation or the home cannot be used."""


class HomeError(SetupError):
    """A home directory cannot be used."""


class NewerSchemaError(HomeError):
    """A home was written by a newer Driftward."""


class PortInUseError(SetupError):
    """Another process listens on the port."""


class CheckpointKeyError(SetupError):
    """A key of checkpoints is absent, open to others, or of the wrong kind.

    `problem` is a stable code.
    """

    def __init__(self, message: str, *, problem: str) -> None:
        super().__init__(message)
        self.problem = problem


class SourceError(SetupError):
    """Scans cannot be had from where they should come."""


class TrackingError(SetupError):
    """MLflow cannot be reached, does not answer, or fails."""


class StorageFullError(SetupError):
    """The disk is full."""


class TrainingFailedError(DriftwardError):
    """The training subprocess failed."""
