"""Full fine-tuning: the encoder's upper layers and the head learn, each at its own rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from retrain.strategies.epochs import Epochs, Group, Schedule, batches_of, shuffled
from retrain.strategies.judging import Judged
from retrain.strategies.layers import encoder_groups
from retrain.strategies.making import Made, Work
from retrain.strategies.network_pass import NetworkPass
from retrain.strategies.scans import Rows


class SupervisedLesson:
    """Teaches encoder and head the labels of the shift and of the reference mixed in."""

    def __init__(self, work: Work, through: NetworkPass, encoder: Sequence[Group]) -> None:
        self._attempt, self._seed = work.attempt, work.seed
        self._through = through
        self._rows = work.scans.training
        head = list(through.network.heads[work.objective.task.output].parameters())
        for parameter in head:
            parameter.requires_grad_(True)
        self._groups = [*encoder, Group(parameters=head, rate=work.attempt.head_rate)]

    @property
    def network(self) -> nn.Module:
        return self._through.network

    def groups(self) -> Sequence[Group]:
        return self._groups

    def steps(self) -> int:
        return batches_of(self._rows, size=self._attempt.batch_size)

    def batches(self, epoch: int) -> Iterator[Rows]:
        return shuffled(self._rows, size=self._attempt.batch_size, seed=self._seed, epoch=epoch)

    def loss(self, rows: Rows) -> Tensor:
        return self._through.cross_entropy(rows)

    def judge(self) -> Judged:
        return self._through.judge()


def fine_tune(work: Work) -> Made:
    """Make a candidate by training the layers that are not frozen."""
    through = NetworkPass(work)
    attempt = work.attempt
    encoder = encoder_groups(
        through.network.embedder.encoder,
        rate=attempt.encoder_rate,
        frozen_share=attempt.frozen_share,
        layer_decay=attempt.layer_decay,
    )
    return train_supervised(work, through, encoder)


def train_supervised(work: Work, through: NetworkPass, encoder: Sequence[Group]) -> Made:
    """Train encoder groups and head on labels, and calibrate on the selection set.

    Raises
    ------
    InsufficientDataError
        If a class is missing among what is learned from or chosen by.
    """
    targets = work.scans.targets
    work.objective.require_every_class(targets[work.scans.training], what="training scans")
    work.objective.require_every_class(targets[work.scans.selection], what="selection scans")
    lesson = SupervisedLesson(work, through, encoder)
    through.place()
    attempt = work.attempt
    epochs = Epochs(
        work.folder,
        lesson,
        Schedule(
            epochs=attempt.epochs,
            weight_decay=attempt.weight_decay,
            patience=attempt.patience,
            mixed_precision=attempt.mixed_precision,
        ),
        tell=work.tell,
    )
    epochs.run()
    rows = work.scans.selection
    _, margins = through.outputs(rows)
    through.leave_device()
    read = work.objective.calibrated(through.network.head_state(), margins, targets[rows])
    return Made(
        embedder=through.network.embedder,
        heads=read.heads,
        calibration=read.calibration,
        margins=read.margins,
        facts=epochs.facts,
        earlier_seconds=epochs.earlier_seconds,
    )
