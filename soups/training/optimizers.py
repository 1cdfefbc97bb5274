"""Optimisers by the names of timm's factory."""

from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError, unknown_name
from soups.training.settings import TrainingSettings

if TYPE_CHECKING:
    import torch


def require_optimizer(settings: TrainingSettings) -> None:
    """Find out that there is such an optimiser, before any work.

    Raises:
        UsageError: the factory does not know the name, or the optimiser will not have the momentum.
    """
    usual = TrainingSettings.model_fields["momentum"].default
    if settings.optimizer == TrainingSettings.model_fields["optimizer"].default and settings.momentum == usual:
        return  # No need to load timm.
    from timm.optim import get_optimizer_info, list_optimizers
    from torch.nn import Linear

    # Left out are those of packages that are not installed, and of second order, which need another way of stepping.
    listed = [str(name) for name in list_optimizers(exclude_filters=["bnb*", "fused*"])]
    known = [name for name in listed if not get_optimizer_info(name).second_order]
    if settings.optimizer not in known:
        raise unknown_name("optimizer", settings.optimizer, known)
    if settings.momentum != usual and not get_optimizer_info(settings.optimizer).has_momentum:
        raise UsageError(
            f"--momentum: the optimizer {settings.optimizer!r} has none to be set", next_step="leave it out"
        )
    try:
        make_optimizer(Linear(1, 1), settings.model_copy(update={"layer_decay": 1.0}))
    except ValueError as error:
        raise UsageError(f"--optimizer {settings.optimizer}", found=str(error)) from error


def make_optimizer(classifier: "torch.nn.Module", settings: TrainingSettings) -> "torch.optim.Optimizer":
    """The optimiser of timm's factory over what is to be trained; one-dimensional tensors are not decayed.

    With `layer_decay` d, the rate of layer i of L (the head the last) is lr · d^(L - 1 - i), in timm's layers (as Bao
    et al. 2021, BEiT, arXiv:2106.08254, and Clark et al. 2020, ELECTRA, arXiv:2003.10555).

    Args:
        classifier: its parameters that require a gradient are trained.
        settings: name, learning rate, weight decay and momentum, found to be right by `require_optimizer`.
    """
    from timm.optim import create_optimizer_v2

    options: dict[str, Any] = {"fused": True} if settings.optimizer == "adamw" else {}
    if settings.layer_decay != 1:
        options["layer_decay"] = settings.layer_decay
    optimizer = create_optimizer_v2(
        classifier,
        opt=settings.optimizer,
        lr=settings.lr,
        weight_decay=settings.wd,
        momentum=settings.momentum,
        filter_bias_and_bn=True,
        **options,
    )
    for group in optimizer.param_groups:  # timm leaves it to its own schedules to heed `lr_scale`.
        group["lr"] *= group.get("lr_scale", 1)
    return optimizer
