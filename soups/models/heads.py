"""How a head starts: from the text tower's view of the class names, or at random."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from soups.core.labels import SEPARATOR

if TYPE_CHECKING:
    from torch import nn

RANDOM_DEVIATION = 0.02


def empty_head(features: int, classes: int) -> "nn.Linear":
    """A linear head (D → C) whose weights are all zero."""
    import torch
    from torch import nn

    # skip_init draws nothing from the global generator.
    head = nn.utils.skip_init(nn.Linear, features, classes)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    return head


def random_head(features: int, classes: int, seed: int) -> "nn.Linear":
    """A head with weights from N(0, 0.02²) and no bias; the same for equal seeds, the global generator untouched."""
    import torch

    head = empty_head(features, classes)
    with torch.no_grad():
        head.weight.normal_(0, RANDOM_DEVIATION, generator=torch.Generator().manual_seed(seed))
    return head


def zero_shot_head(
    clip: Any, tokenizer: Any, classes: Sequence[str], templates: Sequence[str], batch: int = 10
) -> "nn.Linear":
    """A head whose logits are CLIP's zero-shot logits (Radford et al. 2021, section 3.1).

    Its row for a class is the mean over the templates of the prompts' normalised text embeddings, normalised again
    and multiplied by exp(logit_scale), as in the original model-soups code; the bias is zero. (SigLIP's logit bias is
    the same for all classes and left out.)

    Args:
        clip: an open_clip model with a text tower, on the CPU, in evaluation mode.
        tokenizer: its tokenizer.
        classes: class names; underscores, and what stands between the levels of factors, become spaces.
        templates: prompts with `{}` for the name.
        batch: classes whose prompts are embedded together.
    """
    import open_clip
    import torch

    weights = open_clip.build_zero_shot_classifier(
        clip,
        tokenizer,
        [name.replace("_", " ").replace(SEPARATOR, " ") for name in classes],
        [_filler(template) for template in templates],
        num_classes_per_batch=batch,
    )
    head = empty_head(weights.shape[0], len(classes))
    with torch.no_grad():
        head.weight.copy_(weights.T * math.exp(float(clip.logit_scale)))
    return head


def _filler(template: str) -> Callable[[str], str]:
    # Not str.format: a brace in a template or a name is only a character.
    return lambda name: template.replace("{}", name)


def seeded_build(build: Callable[[], Any], seed: int) -> Any:
    """Run a constructor that draws from torch's global CPU generator, seeded, and put the generator back."""
    import torch

    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        return build()
    finally:
        torch.set_rng_state(state)
