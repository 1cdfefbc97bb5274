"""Optimisers by the names of timm's factory."""

from typing import TYPE_CHECKING, Any

from soups.core.errors import UsageError, unknown_name
from soups.training.settings import TrainingSettings

if TYPE_CHECKING:
    import torch


def require_optimizer(settings: TrainingSettings) -> None:
    """Check before any work that the optimiser exists and takes the momentum.

    Raises:
        UsageError: the factory does not know the name, or the optimiser has no momentum to set.
    """
    default = TrainingSettings()
    if (settings.optimizer, settings.momentum) == (default.optimizer, default.momentum):
        return  # timm need not be loaded.
    from timm.optim import get_optimizer_info, list_optimizers
    from torch.nn import Linear

    # Excluded: optimisers of packages that are not installed, and second-order ones, which need another training step.
    names = [str(name) for name in list_optimizers(exclude_filters=["bnb*", "fused*"])]
    first_order = [name for name in names if not get_optimizer_info(name).second_order]
    if settings.optimizer not in first_order:
        raise unknown_name("optimizer", settings.optimizer, first_order)
    if settings.momentum != default.momentum and not get_optimizer_info(settings.optimizer).has_momentum:
        raise UsageError(f"--momentum: the optimizer {settings.optimizer!r} has no momentum", next_step="leave it out")
    try:
        make_optimizer(Linear(1, 1), settings.model_copy(update={"layer_decay": 1.0}))
    except ValueError as error:
        raise UsageError(f"--optimizer {settings.optimizer}: invalid settings", found=str(error)) from error


def make_optimizer(classifier: "torch.nn.Module", settings: TrainingSettings) -> "torch.optim.Optimizer":
    """Returns an optimiser of timm's factory for all trainable parameters; 1-D tensors get no weight decay.

    With `layer_decay` d, the rate of layer i of L (the head is the last) is lr · d^(L - 1 - i), with timm's layers
    (as in Bao et al. 2021, BEiT, arXiv:2106.08254, and Clark et al. 2020, ELECTRA, arXiv:2003.10555).

    Args:
        classifier: parameters with `requires_grad` are trained.
        settings: name, learning rate, weight decay and momentum, checked by `require_optimizer`.
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
    for group in optimizer.param_groups:  # timm leaves `lr_scale` to its own schedulers.
        group["lr"] *= group.get("lr_scale", 1)
    return optimizer
