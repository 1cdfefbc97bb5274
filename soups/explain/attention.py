"""The attention matrices of a transformer, and maps made of them."""

import inspect
import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from soups.explain.layers import UnsuitableMethod, count_prefix_tokens, patch_grid, pools_first_token

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

_SIGNATURE = inspect.signature(F.multi_head_attention_forward)


class _Recorder(TorchFunctionMode):
    """Attention computed step by step instead of in one fused call, so that its matrices are there to be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            given = _SIGNATURE.bind(*args, **kwargs).arguments
            if given["in_proj_weight"] is not None and given.get("attn_mask") is None:
                return self._attend_packed(given), None
        return func(*args, **kwargs)

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """As the fused function: softmax(query · keyᵀ / √d + mask) · value; a bool mask is True where to look."""
        if is_causal or enable_gqa:
            raise UnsuitableMethod("its attention is of a kind whose matrices are not read")
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        self.matrices.append(scores.softmax(dim=-1))
        return self.matrices[-1] @ value

    def _attend_packed(self, given: dict[str, Any]) -> torch.Tensor:
        """What torch's own multi-head attention does in evaluation: (T, N, D) → (T, N, D)."""
        heads = given["num_heads"]
        weights, bias = given["in_proj_weight"].chunk(3), given["in_proj_bias"]
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        tokens = [given[name] for name in ("query", "key", "value")]
        parts = [F.linear(*part) for part in zip(tokens, weights, biases, strict=True)]
        query, key, value = (part.permute(1, 0, 2).unflatten(2, (heads, -1)).transpose(1, 2) for part in parts)
        joined = self._attend(query, key, value).transpose(1, 2).flatten(2).transpose(0, 1)
        return F.linear(joined, given["out_proj_weight"], given["out_proj_bias"])


def attention_matrices(
    classifier: "Classifier", inputs: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor | None]:
    """Logits (N, C), attention (N, heads, T, T) of each block, and of a pooling by attention (N, heads, 1, T).

    All are part of one graph, so that gradients of the logits by the matrices can be had.

    Args:
        classifier: in evaluation mode.
        inputs: (N, 3, S, S) float32.

    Raises:
        Unsuited: the network is no transformer whose blocks each look at all patches of the image.
    """
    # What fused attention is asked for depends on the version and the environment; it is what can be recorded.
    switches: list[Any] = [module for module in classifier.modules() if getattr(module, "fused_attn", None) is False]
    for module in switches:
        module.fused_attn = True
    recorder = _Recorder()
    try:
        # Without gradients torch's attention takes a path of its own that is not asked for matrices.
        with torch.enable_grad(), recorder:
            logits = classifier(inputs.detach().clone().requires_grad_())
    finally:
        for module in switches:
            module.fused_attn = False
    matrices, pool = recorder.matrices, None
    if len(matrices) > 1 and matrices[-1].shape[-2] == 1:
        *matrices, pool = matrices
    shapes = {tuple(matrix.shape) for matrix in matrices}
    images, _, rows, columns = next(iter(shapes), (0, 0, 0, 1))
    if len(shapes) != 1 or images != len(inputs) or rows != columns:
        raise UnsuitableMethod("its layers are not all blocks in which each patch attends to every other")
    return logits, matrices, pool


def rollout(classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Attention rollout (Abnar and Zuidema 2020, "Quantifying attention flow in transformers", section 3).

    A block passes on half of what it attends to (mean over heads) and half of what was there: A ← (A + I) / 2; the
    product of all blocks tells what each token is made of. It says nothing of a class.

    Args:
        classifier: in evaluation mode.
        inputs: (N, 3, S, S) float32.
        classes: not looked at.

    Returns:
        (N, h, w) float32: what the class token is made of, or where there is none the mean patch.
    """
    with torch.no_grad():
        _, matrices, pool = attention_matrices(classifier, inputs)
        steps = [matrix.detach().mean(dim=1) for matrix in matrices]
        identity = torch.eye(steps[0].shape[-1], device=inputs.device)
        flow = identity
        for step in steps:
            flow = (step + identity) / 2 @ flow
        return _of_patches(classifier, flow, None if pool is None else pool.detach().mean(dim=1))


def relevance(classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Relevance through attention and its gradients (Chefer, Gur and Wolf 2021, "Generic attention-model
    explainability for interpreting bi-modal and encoder-decoder transformers", equations 5 and 6).

    R ← R + Ā · R from R = I over the blocks, with Ā the mean over heads of the positive part of attention times the
    gradient of the class's logit by it.

    Args:
        classifier: in evaluation mode.
        inputs: (N, 3, S, S) float32.
        classes: (N,) int64, whose logits are explained.

    Returns:
        (N, h, w) float32: the relevance of the patches to the class token, or where there is none to the mean patch.
    """
    logits, matrices, pool = attention_matrices(classifier, inputs)
    score = logits.gather(1, classes[:, None]).sum()
    wanted = matrices if pool is None else [*matrices, pool]
    gradients = torch.autograd.grad(score, wanted)
    weighted = [(each * slope).clamp(min=0).mean(dim=1).detach() for each, slope in zip(wanted, gradients, strict=True)]
    pooled = None if pool is None else weighted.pop()
    found = torch.eye(weighted[0].shape[-1], device=inputs.device).expand_as(weighted[0])
    for step in weighted:
        found = found + step @ found
    return _of_patches(classifier, found, pooled)


def _of_patches(classifier: "Classifier", flow: torch.Tensor, pool: torch.Tensor | None) -> torch.Tensor:
    """From what all tokens are made of, (N, T, T), what the features are made of, at the patches: (N, h, w)."""
    prefix, side = patch_grid(flow.shape[-1], count_prefix_tokens(classifier))
    if pool is not None:
        rows = (pool @ flow)[:, 0]
    elif pools_first_token(classifier, prefix):
        rows = flow[:, 0]
    else:
        rows = flow[:, prefix:].mean(dim=1)
    return rows[:, prefix:].unflatten(1, (side, side))
