"""Initial heads: zero-shot from a text tower, random, or empty; and constructors run under a fixed seed."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from soups.core.labels import SEPARATOR

if TYPE_CHECKING:
    from torch import nn

RANDOM_STD = 0.02
"""Standard deviation of a random head's weights."""


def empty_head(features: int, classes: int) -> "nn.Linear":
    """Returns a linear head (D → C) whose weights and bias are zero."""
    from torch import nn

    # skip_init draws nothing from the global generator.
    head = nn.utils.skip_init(nn.Linear, features, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def random_head(features: int, classes: int, seed: int) -> "nn.Linear":
    """Returns a head with weights from N(0, 0.02²) and zero bias, without drawing from the global generator."""
    import torch

    head = empty_head(features, classes)
    torch.nn.init.normal_(head.weight, 0, RANDOM_STD, torch.Generator().manual_seed(seed))
    return head


def zero_shot_head(clip: Any, tokenizer: Any, classes: Sequence[str], templates: Sequence[str]) -> "nn.Linear":
    """Returns a head whose logits are CLIP's zero-shot logits (Radford et al. 2021, section 3.1).

    The row of a class is the mean over the templates of the prompts' normalised text embeddings, normalised again and
    multiplied by exp(logit_scale), as in the original model-soups code; the bias is zero. SigLIP's logit bias is the
    same for all classes and is omitted.

    Args:
        clip: an open_clip model with a text tower, on the CPU, in evaluation mode.
        tokenizer: its tokenizer.
        classes: class names; underscores and the separator between the levels of factors become spaces.
        templates: prompts with `{}` for the name.
    """
    import open_clip
    import torch

    weights = open_clip.build_zero_shot_classifier(
        clip,
        tokenizer,
        [name.replace("_", " ").replace(SEPARATOR, " ") for name in classes],
        # Not str.format: a brace in a template or a name is an ordinary character.
        [lambda name, template=template: template.replace("{}", name) for template in templates],
        num_classes_per_batch=10,
    )
    head = empty_head(weights.shape[0], len(classes))
    with torch.no_grad():
        head.weight.copy_(weights.T * math.exp(float(clip.logit_scale)))
    return head


def seeded_build(build: Callable[[], Any], seed: int) -> Any:
    """Returns `build()`, run with torch's global CPU generator seeded; restores the generator afterwards."""
    import torch

    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        return build()
