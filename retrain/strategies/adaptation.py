"""Self-supervised adaptation: the encoder learns a shift from scans without labels.

The encoder is moved until embeddings of the shift are distributed as those of the reference
were, measured by the maximum mean discrepancy (Gretton et al. 2012, JMLR 13:723-773) under
several bandwidths, as in deep adaptation networks (Long et al. 2015, ICML, PMLR 37:97-105).
An anchor holds each reference scan where the base embedded it, so that nothing collapses and
little is forgotten. The head is then refitted on labels of the reference alone.

What is taken for granted is that the shift changed images and not patients: where the
prevalence or the case mix changed, equal distributions are wrong, and the gates will say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from registry.bundles.heads import Floats
from registry.errors import InsufficientDataError
from retrain.strategies.curve import not_told
from retrain.strategies.epochs import (
    Epochs,
    Group,
    Schedule,
    batches_of,
    shuffled,
)
from retrain.strategies.judging import Judged
from retrain.strategies.layers import encoder_groups
from retrain.strategies.making import Made, Work
from retrain.strategies.network_pass import NetworkPass
from retrain.strategies.refitting import Examples
from retrain.strategies.scans import LEAST_TO_ADAPT_TO, Rows

#: Directions of the reference in which distributions are compared, at most.
DIRECTIONS = 32
#: Reference scans that a batch is compared with, at most.
COMPARED = 1000
#: Squared bandwidths of the kernel, in medians of squared distances within the reference.
BANDWIDTHS = (0.25, 1.0, 4.0)
#: What moving the reference by its own variance weighs beside the discrepancy.
ANCHOR_WEIGHT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Where the base embeds the reference, and the coordinates in which that is compared."""

    centre: Tensor  #: [d]
    axes: Tensor  #: principal directions over their standard deviations, [d, k]
    places: Tensor  #: of reference scans in these coordinates, [m, k]
    variance: float  #: of the embeddings, summed over coordinates
    distance: float  #: median of squared distances between places

    @classmethod
    def of(cls, embeddings: Floats, device: torch.device) -> Reference:
        """Return the reference that embeddings [n, d] make."""
        values = embeddings.astype(np.float64)
        centre = values.mean(axis=0)
        _, scales, directions = np.linalg.svd(values - centre, full_matrices=False)
        deviations = scales / np.sqrt(len(values) - 1)
        told_apart = int(np.sum(deviations > 1e-6 * deviations[0]))
        kept = min(DIRECTIONS, len(values) // 4, told_apart)
        axes = torch.from_numpy((directions[:kept].T / deviations[:kept]).astype(np.float32))
        middle = torch.from_numpy(centre.astype(np.float32))
        places = (torch.from_numpy(embeddings[:COMPARED]) - middle) @ axes
        return cls(
            centre=middle.to(device),
            axes=axes.to(device),
            places=places.to(device),
            variance=float(np.sum(deviations**2)),
            distance=float(torch.pdist(places).square().median()),
        )

    def discrepancy(self, embeddings: Tensor) -> Tensor:
        """Return the squared discrepancy of embeddings [n, d] from the reference.

        Unbiased in the embeddings; the reference's own term is a constant, and left out.
        """
        places = (embeddings.float() - self.centre) @ self.axes
        among = _squared_distances(places, places)
        between = _squared_distances(places, self.places)
        count = len(places)
        total = torch.zeros((), device=places.device)
        for bandwidth in BANDWIDTHS:
            scale = 2.0 * bandwidth * self.distance
            # The diagonal is 1 and says nothing.
            within = (torch.exp(-among / scale).sum() - count) / (count * (count - 1))
            total = total + within - 2.0 * torch.exp(-between / scale).mean()
        return total


def _squared_distances(left: Tensor, right: Tensor) -> Tensor:
    # By the binomial rule: `cdist` has no deterministic gradient.
    squared = left.square().sum(1)[:, None] + right.square().sum(1)[None, :]
    return (squared - 2.0 * left @ right.T).clamp_min(0.0)


class AlignmentLesson:
    """Teaches an encoder to embed the shift as the base embeds the reference."""

    def __init__(
        self, work: Work, through: NetworkPass, groups: Sequence[Group], embeddings: Floats
    ) -> None:
        self._attempt, self._seed, self._scans = work.attempt, work.seed, work.scans
        self._objective = work.objective
        self._through, self._groups = through, groups
        self._shifted = work.scans.any_of_shift
        self._anchored = work.scans.training_of_reference
        self._embeddings = embeddings
        self._reference = Reference.of(embeddings[self._anchored], through.device)

    @property
    def network(self) -> nn.Module:
        return self._through.network

    def groups(self) -> Sequence[Group]:
        return self._groups

    def steps(self) -> int:
        return batches_of(self._shifted, size=self._attempt.batch_size)

    def batches(self, epoch: int) -> Iterator[Rows]:
        """Yield scans of the shift, followed by as many of the reference."""
        rng = np.random.default_rng([self._seed, epoch, 1])
        for rows in shuffled(
            self._shifted, size=self._attempt.batch_size, seed=self._seed, epoch=epoch
        ):
            yield np.concatenate([rows, rng.choice(self._anchored, size=len(rows))])

    def loss(self, rows: Rows) -> Tensor:
        embeddings = self._through.network.embedder(self._through.pixels(rows))
        half = len(rows) // 2
        kept = self._anchor(embeddings[half:], rows[half:])
        return self._reference.discrepancy(embeddings[:half]) + ANCHOR_WEIGHT * kept

    def judge(self) -> Judged:
        """Return what is left of the discrepancy, and how far the reference moved.

        No label of the shift is looked at; the AUC is told, and decides nothing.
        """
        rows = self._scans.selection
        shifted, _ = self._through.outputs(self._shifted)
        chosen, margins = self._through.outputs(rows)
        still = torch.from_numpy(shifted).float().to(self._through.device)
        loss = self._reference.discrepancy(still)
        anchored = ~self._scans.shifted[rows]
        if anchored.any():
            moved = torch.from_numpy(chosen[anchored]).float().to(self._through.device)
            loss = loss + ANCHOR_WEIGHT * self._anchor(moved, rows[anchored])
        found = self._objective.judged(margins, self._scans.targets[rows])
        return Judged(loss=float(loss), selection_auc=found.selection_auc)

    def _anchor(self, embeddings: Tensor, rows: Rows) -> Tensor:
        """Return by how much of its variance the reference has moved."""
        before = torch.from_numpy(self._embeddings[rows]).to(embeddings.device)
        return (embeddings.float() - before).square().sum(1).mean() / self._reference.variance


def adapt(work: Work) -> Made:
    """Make a candidate by aligning the encoder, then refitting the head on the reference.

    Raises
    ------
    InsufficientDataError
        If there are too few scans of the shift, or of the reference with labels.
    """
    scans = work.scans
    for rows, what in (
        (scans.any_of_shift, "scans of the shift to adapt to"),
        (scans.training_of_reference, "labelled scans of the reference to hold on to"),
    ):
        if len(rows) < LEAST_TO_ADAPT_TO:
            raise InsufficientDataError(what=what, needed=LEAST_TO_ADAPT_TO, got=len(rows))
    attempt, through = work.attempt, NetworkPass(work)
    groups = encoder_groups(
        through.network.embedder.encoder,
        rate=attempt.encoder_rate,
        frozen_share=attempt.frozen_share,
        layer_decay=attempt.layer_decay,
    )
    lesson = AlignmentLesson(work, through, groups, work.embeddings())
    through.place()
    epochs = Epochs(
        work.folder,
        lesson,
        Schedule(
            epochs=attempt.adaptation_epochs,
            weight_decay=attempt.weight_decay,
            patience=attempt.patience,
            mixed_precision=attempt.mixed_precision,
        ),
        tell=work.tell,
    )
    epochs.run()
    reference, selection = scans.training_of_reference, scans.selection
    examples = [
        Examples(
            embeddings=through.outputs(rows)[0].astype(np.float32), targets=scans.targets[rows]
        )
        for rows in (reference, selection)
    ]
    through.leave_device()
    refitted = work.objective.refit(work.base.head_state(), *examples, tell=not_told)
    return Made(
        embedder=through.network.embedder,
        heads=refitted.heads,
        calibration=refitted.calibration,
        margins=refitted.margins,
        facts={**epochs.facts, **refitted.facts},
        earlier_seconds=epochs.earlier_seconds,
    )
