"""The demo's start: a tiny CLIP, pre-trained on captioned glyphs, so that it knows print but no handwriting.

Saved as open_clip saves a model for a hub, so `open_clip.create_model_and_transforms("local-dir:PATH")` loads it.
"""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.demo import glyphs
from soups.demo.folders import alone, whole_folder
from soups.demo.settings import BaseSettings
from soups.records import fingerprint, whole_file, write_json
from soups.runtime import available_cores, cache_dir
from soups.training.schedule import warmup_cosine

if TYPE_CHECKING:
    import numpy as np
    import torch

logger = logging.getLogger(__name__)

RECIPE = 1  # Raise it when equal settings shall give other weights.
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
VOCABULARY = 49_408  # of open_clip's own tokenizer
CONTEXT = 16  # tokens; the longest caption has 13
PATCH = 8  # pixels
HEAD = 32  # width of an attention head, in both towers
MEAN, STD = (0.0,) * 3, (0.45,) * 3  # Black stays zero: augmentations fill what they uncover with the mean.


def make_base(settings: BaseSettings) -> Path:
    """Pre-train the tiny CLIP, unless the cache has it already (then torch is not even imported).

    Returns:
        A folder in open_clip's hub format: `open_clip_config.json` and `open_clip_model.safetensors`. Input:
        (N, 3, 32, 32) float32, RGB, normalised by the mean and deviation that the config tells.

    Raises:
        EnvironmentFailure: the cache cannot be written, or matplotlib's fonts are missing.
    """
    folder = base_folder(settings)
    if (folder / CONFIG).is_file():
        return folder
    with alone(folder):
        if (folder / CONFIG).is_file():  # Another process made it while this one waited.
            return folder
        with whole_folder(folder) as making:
            _train_and_save(making, settings)
    return folder


def base_folder(settings: BaseSettings) -> Path:
    """Where the base with these settings is, or will be."""
    return cache_dir() / "base" / fingerprint({"recipe": RECIPE, "settings": settings.model_dump(mode="json")})


def model_config(settings: BaseSettings, vocabulary: int = VOCABULARY) -> dict[str, Any]:
    """The architecture as open_clip's model configs tell it."""
    vision = {"image_size": glyphs.SIZE, "patch_size": PATCH, "layers": settings.layers, "width": settings.width}
    text = {"context_length": CONTEXT, "vocab_size": vocabulary, "layers": settings.text_layers}
    return {
        "embed_dim": settings.embed_dim,
        "vision_cfg": vision | {"head_width": HEAD},
        "text_cfg": text | {"width": settings.text_width, "heads": settings.text_width // HEAD},
    }


def _train_and_save(folder: Path, settings: BaseSettings) -> None:
    import torch
    from safetensors.torch import save_file

    threads = torch.get_num_threads()
    # More threads than cores wait for each other: many times slower than one.
    torch.set_num_threads(min(settings.threads, available_cores()))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            weights = _train(settings)
    finally:
        torch.set_num_threads(threads)
    with whole_file(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
    preprocess = {"mean": list(MEAN), "std": list(STD), "interpolation": "bicubic", "resize_mode": "shortest"}
    write_json(folder / CONFIG, {"model_cfg": model_config(settings), "preprocess_cfg": preprocess})


def _train(settings: BaseSettings) -> "dict[str, torch.Tensor]":
    """Train from nothing; returns the weights, with the whole vocabulary."""
    import open_clip
    import torch

    tokens, used = _caption_tokens()
    model = open_clip.CLIP(**model_config(settings, vocabulary=len(used)))
    optimizer = _optimizer(model, settings)
    steps = math.ceil(settings.glyphs / settings.batch_size) * settings.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, steps, settings.warmup))
    for epoch in range(settings.epochs):
        began, losses = time.perf_counter(), []
        for images, targets, captions in _batches(settings, epoch, tokens):
            seen, told, scale = model(images, captions)
            loss = contrastive_loss(seen, told, scale, targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            losses.append(loss.item())
        mean, seconds = sum(losses) / len(losses), time.perf_counter() - began
        logger.info("base: epoch %d of %d, loss %.3f, %.0f s", epoch + 1, settings.epochs, mean, seconds)
    return _with_whole_vocabulary(model.state_dict(), used)


def _optimizer(model: "torch.nn.Module", settings: BaseSettings) -> "torch.optim.Optimizer":
    import torch

    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), fused=True)


def contrastive_loss(
    images: "torch.Tensor", captions: "torch.Tensor", scale: "torch.Tensor", targets: "torch.Tensor"
) -> "torch.Tensor":
    """CLIP's symmetric loss, where several images of a batch share a caption and some captions have no image.

    Args:
        images: (B, D) float32, L2-normalised features.
        captions: (K, D) float32, L2-normalised features, all different.
        scale: () float32, the factor of the cosines.
        targets: (B,) int64, each image's caption.

    An image must find its caption among all; a caption must spread its probability evenly over its images
    (Khosla et al., arXiv:2004.11362, equation 2). Captions without an image serve as negatives only.
    """
    import torch

    logits = scale * images @ captions.T
    to_captions = torch.nn.functional.cross_entropy(logits, targets)
    own = torch.nn.functional.one_hot(targets, len(captions)).to(logits.dtype)
    shares = own.sum(dim=0)
    found = (own * logits.log_softmax(dim=0)).sum(dim=0)[shares > 0] / shares[shares > 0]
    return (to_captions - found.mean()) / 2


def _batches(
    settings: BaseSettings, epoch: int, tokens: "list[torch.Tensor]"
) -> "Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]":
    """One epoch of fresh glyphs.

    Yields (B, 3, 32, 32) float32 normalised images, (B,) int64 targets and the (K, 16) int64 tokens of one
    caption for each of the K characters.
    """
    import numpy as np
    import torch

    rng = np.random.default_rng([settings.seed, epoch])
    atlas = glyphs.build_atlas()
    entries = draw_entries(atlas, rng, settings)
    for piece in np.array_split(entries, math.ceil(len(entries) / settings.batch_size)):
        images = to_input(glyphs.render(atlas, piece, rng, glyphs.Hand()))
        captions = torch.stack([choices[int(rng.integers(len(choices)))] for choices in tokens])
        yield images, torch.from_numpy(atlas.characters[piece]), captions


def draw_entries(atlas: glyphs.Atlas, rng: "np.random.Generator", settings: BaseSettings) -> "np.ndarray":
    """Which letters of the atlas one epoch shows, in order: (glyphs,) int64."""
    import numpy as np

    digits, pen = atlas.characters < len(glyphs.DIGITS), atlas.thickness == 0
    chance = np.zeros(len(digits))
    for kind, kind_share in ((digits, settings.digit_share), (~digits, 1 - settings.digit_share)):
        for hand, hand_share in ((pen, settings.pen_share), (~pen, 1 - settings.pen_share)):
            chance[kind & hand] = kind_share * hand_share / (kind & hand).sum()
    return rng.choice(len(chance), settings.glyphs, p=chance)


def to_input(images: "np.ndarray") -> "torch.Tensor":
    """(N, 32, 32) uint8 grey -> (N, 3, 32, 32) float32, normalised."""
    import torch

    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (torch.from_numpy(images)[:, None].float() / 255 - mean) / std


def _caption_tokens() -> "tuple[list[torch.Tensor], torch.Tensor]":
    """Tokens of all captions, for each character (captions, 16) int64; and the vocabulary's ids that they use.

    Tokens count within the used ids: the optimiser then does not touch 49 thousand words for a hundred. The order is
    kept, as the text tower finds a caption's end by its greatest id.
    """
    import open_clip
    import torch

    tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
    tokens = [tokenizer(glyphs.captions_of(character)) for character in glyphs.CHARACTERS]
    used = torch.cat(tokens).unique(sorted=True)
    return [torch.searchsorted(used, ids) for ids in tokens], used


def _with_whole_vocabulary(weights: "dict[str, torch.Tensor]", used: "torch.Tensor") -> "dict[str, torch.Tensor]":
    """Put the trained words in their places; a word never seen has a zero embedding and so says nothing."""
    import torch

    key = "token_embedding.weight"
    words = torch.zeros(VOCABULARY, weights[key].shape[1])
    words[used] = weights[key]
    return {name: value.contiguous() for name, value in weights.items()} | {key: words}
