"""From a pattern to a cause, with its confidence, its runners-up, and what decided.

Trees that were boosted on simulated windows give each kind of cause a share of their votes;
how often an answer of so many votes is right was counted on windows of other images. An
answer that is not sure enough is `unknown`. So is one whose pattern is not typical of its
cause: how near it must be was learnt on kinds of cause that were left out in turn.
docs/decisions has the argument, the card beside the file the figures.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from monitor.statistics.attribution.boosted_trees import BoostedTrees
from monitor.statistics.attribution.first_level import FirstLevel
from monitor.statistics.attribution.nearness import Nearness
from monitor.statistics.attribution.pattern import Pattern
from monitor.statistics.embeddings import Flags, Floats, Integers
from registry.errors import BadInputError, IntegrityError

_FORMAT = 4
#: the classifier that ships, and the card that says what it was made of and when not to use it
CLASSIFIER, CARD = "causes.npz", "causes.card.json"
#: runners-up below this share of the votes are not told
_LEAST_SHARE = 0.02
# Votes closer to none or all than this are no farther apart.
_ROUNDING = 1e-4
#: a piece that fewer simulated windows of the kind lie beyond is told as unlike
_UNLIKE_PIECE = 0.02


#: numbers of which the mean says how far pixels came off what scans show, which no mixture of
#: scans does and every clear change of the image chain
SUPPORT = tuple(
    ("how views go together", f"pixels by {space}: displacement")
    for space in ("monitoring", "champion")
)
#: the kind that no mixture of scans brings about, alone or with others
_TECHNICAL = FirstLevel.TECHNICAL.value
# Share of held-out technical windows in which pixels came off less, from which on the change
# needs no further likeness to those that were simulated.
_CLEARLY = 0.5


class Doubt(StrEnum):
    """Why no cause is named."""

    NONE = "none"
    UNSURE = "answers this sure were wrong too often on held-out images"
    UNLIKE = "the pattern is not typical of the cause that comes nearest"
    UNSUPPORTED = (
        "pixels and what encoders see in them go together nearly as before, as where only the "
        "mixture of scans changes"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceEvidence:
    """What one piece of the pattern added to the answer."""

    piece: str
    #: of the leading cause's share of the votes, what is lost if this piece looked ordinary
    contribution: float
    #: the piece's numbers
    numbers: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", MappingProxyType(dict(self.numbers)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The cause of a shift on the first level of the tree."""

    cause: FirstLevel
    doubt: Doubt
    #: the cause with most votes, also where it is not sure enough to be named
    leading: FirstLevel
    #: how often an answer of so many votes was right on windows of held-out images
    confidence: float
    #: causes by their share of the votes, the leading one first
    shares: tuple[tuple[FirstLevel, float], ...]
    #: what exactly was likest among what was simulated, say "prevalence and technical"
    likest: str
    #: share of held-out windows, rightly named so, that are less typical than this one
    farther: float
    #: the pieces by their contribution, the largest first
    evidence: tuple[PieceEvidence, ...]
    #: pieces that look unlike nearly all simulated windows of that kind
    unlike: tuple[str, ...] = ()

    @property
    def runners_up(self) -> tuple[tuple[FirstLevel, float], ...]:
        """Causes that come after the leading one, with their shares of the votes."""
        return tuple(item for item in self.shares[1:] if item[1] >= _LEAST_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What a classifier makes of many patterns."""

    #: [n, C] the causes' shares of the votes
    shares: Floats
    #: [n] the leading cause, and of its kinds the likest
    leading: Integers
    likest: Integers
    #: [n, P] share of the likest kind's windows that lie farther out, by piece
    pieces_farther: Floats
    #: [n] how far pixels came off what scans show
    support: Floats

    @property
    def readings(self) -> Floats:
        """What typicality is told by: the votes, and how near all pieces are, [n, 2]."""
        top = np.clip(self.shares.max(axis=1), _ROUNDING, 1.0 - _ROUNDING)
        return np.stack([logit(top), np.log(self.pieces_farther).sum(axis=1)], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CauseClassifier:
    """A fitted classifier of patterns."""

    #: [F] (piece, name) of each number
    names: tuple[tuple[str, str], ...]
    #: [K] kinds that were simulated, and the cause of each
    kinds: tuple[str, ...]
    causes: tuple[FirstLevel, ...]
    trees: BoostedTrees
    #: [M] shares of the votes, rising, and by leading cause (in the order of `named`) how
    #: often answers of so many votes were right, [C, M]: a cause that was seldom seen, or
    #: mixed with others, gets fewer votes where it is just as right
    knots: Floats
    calibration: Floats
    #: answers of less confidence are `unknown`
    least_confidence: float
    #: [2] how much votes and nearness say of whether the kind of cause is known at all
    typicality: Floats
    #: [C, Q] of held-out windows that were rightly named, rising
    typical: Floats
    #: [C] answers to patterns that fewer of these windows are less typical than are `unknown`, too
    least_farther: Floats
    #: [Q] how far pixels came off in held-out technical windows that were rightly named, rising
    supporting: Floats
    #: technical answers of which fewer of these are less supported are `unknown`, too
    least_supported: float
    nearness: Nearness
    #: [F] numbers of an ordinary window
    ordinary: Floats

    def answer(self, pattern: Pattern) -> Attribution:
        """Name the cause behind a pattern, or say that it is unknown.

        Raises
        ------
        BadInputError
            If the pattern has other numbers than those that the classifier learnt from.
        """
        if pattern.names != self.names:
            raise BadInputError(
                "the pattern's numbers are not those that the cause classifier was fitted to: "
                "fit it again (tests/benchmarks/episodes/cause_training.py)"
            )
        values = pattern.values
        pieces = tuple(pattern.pieces)
        without = np.stack(
            [
                values,
                *(
                    np.where([own == piece for own, _ in self.names], self.ordinary, values)
                    for piece in pieces
                ),
            ]
        )
        named, judged = self.named, self.judge(without)
        shares = judged.shares
        order = np.argsort(-shares[0], kind="stable")
        leading, likest = named[order[0]], int(judged.likest[0])
        farther = float(self.farther(judged)[0])
        confidence = float(self.confidences(shares[:1])[0])
        doubt = self._doubt(
            confidence,
            unlike=bool(self.unlike(judged)[0]),
            unsupported=bool(self.unsupported(judged)[0]),
        )
        lost = shares[0, order[0]] - shares[1:, order[0]]
        compared = self.compared
        return Attribution(
            cause=leading if doubt is Doubt.NONE else FirstLevel.UNKNOWN,
            doubt=doubt,
            leading=leading,
            confidence=confidence,
            shares=tuple((named[at], float(shares[0, at])) for at in order.tolist()),
            likest=self.kinds[likest],
            farther=farther,
            evidence=tuple(
                PieceEvidence(
                    piece=pieces[at],
                    contribution=float(lost[at]),
                    numbers=pattern.pieces[pieces[at]],
                )
                for at in np.argsort(-lost, kind="stable").tolist()
            ),
            unlike=tuple(
                compared[at]
                for at in np.argsort(judged.pieces_farther[0], kind="stable").tolist()
                if judged.pieces_farther[0, at] < _UNLIKE_PIECE
            ),
        )

    def judge(self, values: Floats) -> Judged:
        """Look at many patterns [n, F]."""
        votes = self.votes(values)
        shares = self.by_cause(votes)
        leading = shares.argmax(axis=1)
        of_cause = np.array([self.named.index(cause) for cause in self.causes])
        likest = np.where(of_cause == leading[:, None], votes, -1.0).argmax(axis=1)
        return Judged(
            shares=shares,
            leading=leading,
            likest=likest,
            pieces_farther=self.nearness.shares_farther(values, likest),
            support=self.support(values),
        )

    def support(self, values: Floats) -> Floats:
        """Return how far pixels came off what scans show, for patterns [n, F], [n].

        0 where the pattern has no such numbers.
        """
        columns = [self.names.index(name) for name in SUPPORT if name in self.names]
        if not columns:
            return np.zeros(len(values))
        return np.asarray(values[:, columns].mean(axis=1))

    def farther(self, judged: Judged) -> Floats:
        """Return the share of held-out windows of the leading cause that are less typical, [n].

        A conformal p-value for each cause by itself (Vovk et al. 2005, *Algorithmic Learning
        in a Random World*, section 4.5): never 0.
        """
        own = (judged.readings @ self.typicality)[:, None]
        less = (self.typical[judged.leading] <= own).sum(axis=1)
        return np.asarray((1 + less) / (1 + self.typical.shape[1]))

    def unlike(self, judged: Judged) -> Flags:
        """Return which patterns are less typical of their leading cause than it demands, [n].

        None is where pixels clearly came off what scans show and a technical change is what
        is likest, alone or mixed: no mixture of scans does that, so that the kind is known,
        however unlike the simulated ones the change looks.
        """
        technical = np.array([_TECHNICAL in kind for kind in self.kinds])
        clear = judged.support > np.quantile(self.supporting, _CLEARLY)
        atypical = self.farther(judged) < self.least_farther[judged.leading]
        return np.asarray(atypical & ~(clear & technical[judged.likest]))

    def unsupported(self, judged: Judged) -> Flags:
        """Return which patterns are likest technical and have nothing that speaks for it, [n].

        Another prevalence, case mix, population or routing are other mixtures of scans, each
        of which is made as before. Whatever kind of mixture nobody simulated: technical is no
        name for it.
        """
        named = np.array([cause is FirstLevel.TECHNICAL for cause in self.named])
        less = np.searchsorted(self.supporting, judged.support, side="right")
        supported = (1 + less) / (1 + len(self.supporting)) >= self.least_supported
        return np.asarray(named[judged.leading] & ~supported)

    def doubtful(self, judged: Judged) -> Flags:
        """Return which of many answers are `unknown`, [n]."""
        unsure = self.confidences(judged.shares) < self.least_confidence
        return np.asarray(unsure | self.unlike(judged) | self.unsupported(judged))

    @property
    def compared(self) -> tuple[str, ...]:
        """Pieces whose nearness to simulated windows counts, P of them."""
        return compared_pieces(self.names)

    @property
    def named(self) -> tuple[FirstLevel, ...]:
        """The causes that can be named, C of them."""
        return tuple(dict.fromkeys(self.causes))

    def by_cause(self, votes: Floats) -> Floats:
        """Return the causes' shares of the votes [n, K], [n, C]."""
        of = [[one is cause for one in self.causes] for cause in self.named]
        return np.stack([votes[:, own].sum(axis=1) for own in of], axis=1)

    def confidences(self, shares: Floats) -> Floats:
        """Return how often answers with such shares [n, C] were right, [n]."""
        return np.array(
            [np.interp(row.max(), self.knots, self.calibration[row.argmax()]) for row in shares]
        )

    def votes(self, values: Floats) -> Floats:
        """Return the kinds' shares of the votes for patterns [n, F], [n, K]."""
        return self.trees.probabilities(values)

    def _doubt(self, confidence: float, *, unlike: bool, unsupported: bool) -> Doubt:
        if unsupported:
            return Doubt.UNSUPPORTED
        if unlike:
            return Doubt.UNLIKE
        return Doubt.UNSURE if confidence < self.least_confidence else Doubt.NONE

    def to_bytes(self) -> bytes:
        """Return the classifier as a compressed NumPy archive."""
        trees, nearness = self.trees, self.nearness
        arrays: dict[str, Any] = {
            "format": np.array(_FORMAT),
            "names": np.array(self.names),
            "kinds": np.array(self.kinds),
            "causes": np.array([cause.value for cause in self.causes]),
            **{f"trees.{f.name}": _small(getattr(trees, f.name)) for f in fields(trees)},
            "knots": self.knots,
            "calibration": self.calibration,
            "least_confidence": np.array(self.least_confidence),
            "typicality": self.typicality,
            "typical": self.typical,
            "least_farther": self.least_farther,
            "supporting": self.supporting,
            "least_supported": np.array(self.least_supported),
            **{
                f"nearness.{f.name}": _small(getattr(nearness, f.name))
                for f in fields(nearness)
                if f.init
            },
            "nearness.examples": nearness.examples.astype(np.float16),
            "ordinary": self.ordinary,
        }
        kept = io.BytesIO()
        np.savez_compressed(kept, **arrays)
        return kept.getvalue()

    @classmethod
    def of_bytes(cls, content: bytes) -> CauseClassifier:
        """Read what `to_bytes` wrote.

        Raises
        ------
        BadInputError
            If it is no classifier of this format.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                kept = dict(archive)
            if int(kept["format"]) != _FORMAT:
                raise BadInputError(
                    f"the cause classifier has format {int(kept['format'])}, and this version "
                    f"reads format {_FORMAT}: install Driftward again"
                )
            return cls(
                names=tuple((piece, name) for piece, name in kept["names"].tolist()),
                kinds=tuple(kept["kinds"].tolist()),
                causes=tuple(FirstLevel(cause) for cause in kept["causes"].tolist()),
                trees=BoostedTrees(
                    **{f.name: _large(kept[f"trees.{f.name}"]) for f in fields(BoostedTrees)}
                ),
                knots=kept["knots"],
                calibration=kept["calibration"],
                least_confidence=float(kept["least_confidence"]),
                typicality=kept["typicality"],
                typical=kept["typical"],
                least_farther=kept["least_farther"],
                supporting=kept["supporting"],
                least_supported=float(kept["least_supported"]),
                nearness=Nearness(
                    **{
                        f.name: _large(kept[f"nearness.{f.name}"])
                        for f in fields(Nearness)
                        if f.init
                    }
                ),
                ordinary=kept["ordinary"],
            )
        except (KeyError, TypeError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise BadInputError(
                "this is no cause classifier: install Driftward again"
            ) from error


def compared_piece(piece: str) -> str | None:
    """Return the piece as part of which a piece is compared, None where it is not.

    A window's size is no shift, and how views go together has a bound of its own. How many
    scans are displaced and whether one place carries it are compared as one: a few are
    ordinary after a technical change where they are one scanner's, and only there.
    """
    if piece in {"size", SUPPORT[0][0]}:
        return None
    return piece.replace(" location", " coherence")


def compared_pieces(names: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return what is compared, in order, P of them."""
    compared = (compared_piece(piece) for piece, _ in names)
    return tuple(dict.fromkeys(piece for piece in compared if piece is not None))


def shipped_classifier() -> CauseClassifier:
    """Return the classifier that ships.

    Raises
    ------
    IntegrityError
        If a file is absent, or the classifier is not the one that its card describes.
    """
    folder = files("monitor.statistics.attribution")
    try:
        content = folder.joinpath(CLASSIFIER).read_bytes()
        card = json.loads(folder.joinpath(CARD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(
            "the cause classifier or its card is not there: install Driftward again"
        ) from None
    if hashlib.sha256(content).hexdigest() != card["sha256"]:
        raise IntegrityError(
            f"{CLASSIFIER} is not the classifier that {CARD} describes: install Driftward again"
        )
    return CauseClassifier.of_bytes(content)


def _small(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers in half the room: a threshold's last digits tell no windows apart."""
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def _large(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
