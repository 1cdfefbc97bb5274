"""Attention matrices of a transformer, and maps computed from them: rollout and relevance."""

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


class _AttentionRecorder(TorchFunctionMode):
    """Replaces fused attention by its single steps, and records the attention matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            bound = _SIGNATURE.bind(*args, **kwargs).arguments
            if bound["in_proj_weight"] is not None and bound.get("attn_mask") is None:
                return self._attend_packed(bound), None
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
        """Returns softmax(query · keyᵀ / √d + mask) · value; a bool mask is True for allowed keys."""
        if is_causal or enable_gqa:
            raise UnsuitableMethod("its kind of attention (causal or grouped queries) is not supported")
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        self.matrices.append(scores.softmax(dim=-1))
        return self.matrices[-1] @ value

    def _attend_packed(self, arguments: dict[str, Any]) -> torch.Tensor:
        """Returns the output of torch's multi-head attention in evaluation mode: (T, N, D) → (T, N, D)."""
        heads = arguments["num_heads"]
        weights, bias = arguments["in_proj_weight"].chunk(3), arguments["in_proj_bias"]
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        tokens = [arguments[name] for name in ("query", "key", "value")]
        parts = [F.linear(*part) for part in zip(tokens, weights, biases, strict=True)]
        query, key, value = (part.permute(1, 0, 2).unflatten(2, (heads, -1)).transpose(1, 2) for part in parts)
        joined = self._attend(query, key, value).transpose(1, 2).flatten(2).transpose(0, 1)
        return F.linear(joined, arguments["out_proj_weight"], arguments["out_proj_bias"])


def attention_matrices(
    classifier: "Classifier", inputs: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor | None]:
    """Returns logits (N, C), attention (N, heads, T, T) of each block, and of attention pooling (N, heads, 1, T).

    All are in one graph, so that the logits can be differentiated by the matrices. Without attention pooling the last
    is None.

    Args:
        classifier: in evaluation mode.
        inputs: (N, 3, S, S) float32.

    Raises:
        UnsuitableMethod: the network is not a transformer in whose blocks each patch attends to every other.
    """
    # Only fused attention can be recorded; whether timm uses it depends on its version and the environment.
    switches: list[Any] = [module for module in classifier.modules() if getattr(module, "fused_attn", None) is False]
    for module in switches:
        module.fused_attn = True
    recorder = _AttentionRecorder()
    try:
        # Without gradients, torch's attention takes a fast path that cannot be intercepted.
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


def rollout(classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, layer: None) -> torch.Tensor:
    """Returns attention rollout (Abnar and Zuidema 2020, "Quantifying attention flow in transformers", section 3).

    Each block contributes A ← (A + I) / 2, with A the mean attention over heads and I for the residual connection; the
    product over blocks is the share of each input token in each output token. The map does not depend on the class.

    Args:
        classifier: in evaluation mode.
        inputs: (N, 3, S, S) float32.
        classes: not used.
        layer: not used.

    Returns:
        (N, h, w) float32: the share of each patch in the class token, or in the mean patch if there is no class token.
    """
    with torch.no_grad():
        _, matrices, pool = attention_matrices(classifier, inputs)
        flow = identity = torch.eye(matrices[0].shape[-1], device=inputs.device)
        for matrix in matrices:
            flow = (matrix.mean(dim=1) + identity) / 2 @ flow
        return _patch_shares(classifier, flow, None if pool is None else pool.mean(dim=1))


def relevance(classifier: "Classifier", inputs: torch.Tensor, classes: torch.Tensor, layer: None) -> torch.Tensor:
    """Returns relevance from attention and its gradients (Chefer, Gur and Wolf 2021, "Generic attention-model
    explainability for interpreting bi-modal and encoder-decoder transformers", equations 5 and 6).

    R ← R + Ā · R from R = I over the blocks, with Ā the mean over heads of the positive part of attention times the
    gradient of the class's logit by it.

    Args:
        classifier: in evaluation mode.
        inputs: (N, 3, S, S) float32.
        classes: (N,) int64, the classes whose logits are explained.
        layer: not used.

    Returns:
        (N, h, w) float32: the relevance of each patch to the class token, or to the mean patch without class token.
    """
    logits, matrices, pool = attention_matrices(classifier, inputs)
    score = logits.gather(1, classes[:, None]).sum()
    attention = matrices if pool is None else [*matrices, pool]
    pairs = zip(attention, torch.autograd.grad(score, attention), strict=True)
    weighted = [(matrix * gradient).clamp(min=0).mean(dim=1).detach() for matrix, gradient in pairs]
    pooled = None if pool is None else weighted.pop()
    total = torch.eye(weighted[0].shape[-1], device=inputs.device).expand_as(weighted[0])
    for step in weighted:
        total = total + step @ total
    return _patch_shares(classifier, total, pooled)


def _patch_shares(classifier: "Classifier", flow: torch.Tensor, pool: torch.Tensor | None) -> torch.Tensor:
    """Returns the patches' shares in the features (N, h, w), from the shares in all tokens (N, T, T)."""
    prefix, side = patch_grid(flow.shape[-1], count_prefix_tokens(classifier))
    if pool is not None:
        rows = (pool @ flow)[:, 0]
    elif pools_first_token(classifier, prefix):
        rows = flow[:, 0]
    else:
        rows = flow[:, prefix:].mean(dim=1)
    return rows[:, prefix:].unflatten(1, (side, side))
