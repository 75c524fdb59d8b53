"""LoRA: low-rank updates of a transformer's layers, merged into its weights at the end.

Hu et al. (2022), ICLR, arXiv 2106.09685. The bundle that comes out is an ordinary one:
what was added is summed into the layers, and nothing of it remains beside them.
"""

from __future__ import annotations

from torch import nn

from registry.errors import BundleError
from retrain.change_plan import LoraLayers, Strategy
from retrain.strategies.epochs import Group
from retrain.strategies.full import train_supervised
from retrain.strategies.making import Made, Work
from retrain.strategies.network_pass import NetworkPass

#: What transformers calls the projections of its attention.
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "out_proj")


def adapt_low_rank(work: Work) -> Made:
    """Make a candidate by training low-rank updates of the transformer's layers, and the head.

    Raises
    ------
    BundleError
        If the encoder has no attention.
    """
    from peft import LoraConfig, LoraModel

    through = NetworkPass(work)
    embedder = through.network.embedder
    if not attention_projections(embedder.encoder):
        others = ", ".join(
            strategy.value for strategy in Strategy if strategy is not Strategy.LORA
        )
        raise BundleError(
            f"{Strategy.LORA.value} adapts attention layers, and the encoder of "
            f"{work.base.card.name} ({type(embedder.encoder).__name__}) has none: "
            f"{others} fit it"
        )
    settings = LoraConfig(
        r=work.attempt.lora_rank,
        lora_alpha=work.attempt.lora_alpha,
        target_modules=adapted_layers(embedder.encoder, work.attempt.lora_layers),
        lora_dropout=0.0,
        bias="none",
    )
    adapted = LoraModel(embedder.encoder, settings, "default")
    embedder.encoder = adapted
    updates = [parameter for name, parameter in adapted.named_parameters() if "lora_" in name]
    made = train_supervised(
        work, through, [Group(parameters=updates, rate=work.attempt.encoder_rate)]
    )
    embedder.encoder = adapted.merge_and_unload()
    return made


def adapted_layers(encoder: nn.Module, which: LoraLayers) -> list[str]:
    """Return the names of the layers that get an update.

    Parameters
    ----------
    which : ATTENTION, its projections; LINEAR, every linear layer, which adds those
        between attentions; ALL, the convolution that embeds patches, too, where a
        change of noise or sharpness arrives first
    """
    if which is LoraLayers.ATTENTION:
        return attention_projections(encoder)
    kinds = (nn.Linear,) if which is LoraLayers.LINEAR else (nn.Linear, nn.Conv2d)
    return [
        name
        for name, module in encoder.named_modules()
        # Peft has no update for a convolution by groups.
        if isinstance(module, kinds) and getattr(module, "groups", 1) == 1
    ]


def attention_projections(encoder: nn.Module) -> list[str]:
    """Return the names of an encoder's attention projections."""
    return [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in PROJECTIONS
    ]
