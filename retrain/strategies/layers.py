"""Which layers of an encoder learn, and how fast."""

from __future__ import annotations

from torch import nn

from retrain.strategies.epochs import Group


def encoder_groups(
    encoder: nn.Module, *, rate: float, frozen_share: float, layer_decay: float
) -> list[Group]:
    """Let an encoder's upper layers learn, and return them with their rates.

    Parameters
    ----------
    encoder : whose parameters need no gradient yet
    rate : of the layer nearest to the head
    frozen_share : of the layers, from the input on, that stay as they are. A layer is a
        module that owns parameters, in the order in which the encoder names them, which
        is from the input on.
    layer_decay : by which the rate shrinks from one block to the one below it (Clark et
        al. 2020, ELECTRA; Bao et al. 2022, BEiT). A block is what an encoder repeats,
        and each of what stands before and after its blocks.
    """
    layers = [list(module.parameters(recurse=False)) for module in encoder.modules()]
    layers = [layer for layer in layers if layer]
    learning = {
        id(parameter)
        for layer in layers[round(frozen_share * len(layers)) :]
        for parameter in layer
    }
    stack = blocks(encoder)
    groups = []
    for index, block in enumerate(stack):
        parameters = [parameter for parameter in block if id(parameter) in learning]
        for parameter in parameters:
            parameter.requires_grad_(True)
        below = len(stack) - 1 - index
        groups.append(Group(parameters=parameters, rate=rate * layer_decay**below))
    return [group for group in groups if group.parameters]


def blocks(encoder: nn.Module) -> list[list[nn.Parameter]]:
    """Return an encoder's parameters by block, from the input on."""
    found: list[list[nn.Parameter]] = []

    def walk(module: nn.Module) -> None:
        if not _repeats(module):
            found.append(list(module.parameters()))
            return
        found.append(list(module.parameters(recurse=False)))
        for child in module.children():
            walk(child)

    walk(encoder)
    return [block for block in found if block]


def _repeats(module: nn.Module) -> bool:
    return any(isinstance(part, nn.ModuleList) and len(part) for part in module.modules())
