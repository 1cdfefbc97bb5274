"""Start models of the demos: a tiny CLIP pre-trained on captioned glyphs (printed, not handwritten) or on captioned
icons of people (drawings, not portraits).

Saved in open_clip's hub format, so `open_clip.create_model_and_transforms("local-dir:PATH")` loads it.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soups.core.processors import available_cores
from soups.files.atomic import atomic_write, fingerprint, write_json
from soups.runtime.devices import cache_dir
from soups.training.schedule import lr_factor
from tools.demo_data.folders import atomic_folder, exclusive
from tools.demo_data.pretraining_batches import SUBJECTS, Batch, Subject
from tools.demo_data.settings import BaseSettings

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(f"soups.{__name__}")

RECIPE = 1  # Increase this when equal settings give different weights.
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
VOCABULARY = 49_408  # vocabulary size of open_clip's tokenizer
PATCH = 8  # pixels
HEAD = 32  # width of an attention head in both towers


def make_base(settings: BaseSettings) -> Path:
    """Pre-train the tiny CLIP unless it is cached; torch is not imported for a cached one.

    Returns:
        A folder in open_clip's hub format: `open_clip_config.json` and `open_clip_model.safetensors`. The model's input
        is (N, 3, S, S) float32, RGB, normalised with the mean and standard deviation of the config; S is 32 for digits,
        48 for faces.

    Raises:
        EnvironmentFailure: The cache cannot be written, or matplotlib's fonts are missing.
    """
    settings = settings.with_defaults()
    folder = base_folder(settings)
    if (folder / CONFIG).is_file():
        return folder
    with exclusive(folder):
        if (folder / CONFIG).is_file():  # Another process made it during the wait.
            return folder
        with atomic_folder(folder) as making:
            _train_and_save(making, settings)
    return folder


def base_folder(settings: BaseSettings) -> Path:
    """Return the cache folder of the base with these settings."""
    return cache_dir() / "base" / fingerprint({"recipe": RECIPE, "settings": settings.identity()})


def model_config(settings: BaseSettings, vocabulary: int = VOCABULARY) -> dict[str, Any]:
    """Return the architecture in the format of open_clip's model configs."""
    settings, subject = settings.with_defaults(), SUBJECTS[settings.subject]
    vision = {"image_size": subject.size, "patch_size": PATCH, "layers": settings.layers, "width": settings.width}
    text = {"context_length": subject.context, "vocab_size": vocabulary, "layers": settings.text_layers}
    return {
        "embed_dim": settings.embed_dim,
        "vision_cfg": vision | {"head_width": HEAD},
        "text_cfg": text | {"width": settings.text_width, "heads": settings.text_width // HEAD},
    }


def _train_and_save(folder: Path, settings: BaseSettings) -> None:
    import torch
    from safetensors.torch import save_file

    threads = torch.get_num_threads()
    # More threads than cores wait for each other, which is many times slower than one thread.
    torch.set_num_threads(min(settings.threads, available_cores()))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            weights = _train(settings, SUBJECTS[settings.subject])
    finally:
        torch.set_num_threads(threads)
    with atomic_write(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
    subject = SUBJECTS[settings.subject]
    preprocess: dict[str, Any] = {"mean": list(subject.mean), "std": list(subject.std)}
    preprocess |= {"interpolation": "bicubic", "resize_mode": subject.resize}
    write_json(folder / CONFIG, {"model_cfg": model_config(settings), "preprocess_cfg": preprocess})


def _train(settings: BaseSettings, subject: Subject) -> "dict[str, torch.Tensor]":
    """Train from random weights; returns the state dict with the whole vocabulary."""
    import open_clip
    import torch

    vocabulary = _Vocabulary.of(subject)
    config = model_config(settings, vocabulary=len(vocabulary.used))
    model = open_clip.CLIP(**config, init_logit_scale=math.log(subject.scale))
    optimizer = _optimizer(model, settings)
    steps = math.ceil(settings.images / settings.batch_size) * settings.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, steps, settings.warmup))
    for epoch in range(settings.epochs):
        start, losses = time.perf_counter(), []
        for batch in subject.batches(settings, epoch):
            loss = _batch_loss(model, subject, vocabulary, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            losses.append(loss.item())
        mean, seconds = sum(losses) / len(losses), time.perf_counter() - start
        logger.info("base: epoch %d of %d, loss %.3f, %.0f s", epoch + 1, settings.epochs, mean, seconds)
    return _with_whole_vocabulary(model.state_dict(), vocabulary.used)


def _batch_loss(model: "torch.nn.Module", subject: Subject, vocabulary: "_Vocabulary", batch: Batch) -> "torch.Tensor":
    """Return the contrastive loss, averaged over the caption sets of a batch."""
    import torch

    captions = vocabulary.tokens([caption for caption_set in batch.caption_sets for caption in caption_set.captions])
    image_features, caption_features, scale = model(subject.to_input(batch.images), captions)
    parts = caption_features.split([len(caption_set.captions) for caption_set in batch.caption_sets])
    losses = [
        contrastive_loss(image_features, part, scale, torch.from_numpy(caption_set.targets))
        for caption_set, part in zip(batch.caption_sets, parts, strict=True)
    ]
    return torch.stack(losses).mean()


def _optimizer(model: "torch.nn.Module", settings: BaseSettings) -> "torch.optim.Optimizer":
    import torch

    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98), fused=True)


def contrastive_loss(
    images: "torch.Tensor", captions: "torch.Tensor", scale: "torch.Tensor", targets: "torch.Tensor"
) -> "torch.Tensor":
    """Return CLIP's symmetric loss for images that share captions and captions without images.

    Args:
        images: (B, D) float32, L2-normalised features.
        captions: (K, D) float32, L2-normalised features, all different.
        scale: () float32, factor of the cosines.
        targets: (B,) int64, the caption of each image.

    An image must select its caption among all captions; a caption must spread its probability evenly over its images
    (Khosla et al., arXiv:2004.11362, equation 2). Captions without an image serve only as negatives.
    """
    import torch

    logits = scale * images @ captions.T
    to_captions = torch.nn.functional.cross_entropy(logits, targets)
    is_own = torch.nn.functional.one_hot(targets, len(captions)).to(logits.dtype)
    image_counts = is_own.sum(dim=0)
    has_image = image_counts > 0
    log_likelihoods = (is_own * logits.log_softmax(dim=0)).sum(dim=0)[has_image] / image_counts[has_image]
    return (to_captions - log_likelihoods.mean()) / 2


@dataclass(frozen=True)
class _Vocabulary:
    """The part of open_clip's vocabulary used by a subject's captions.

    Token ids are positions in this part, so the optimiser updates a hundred embeddings instead of 49 thousand. The
    order of ids is preserved because the text tower finds a caption's end by its highest id.
    """

    tokenizer: Callable[[list[str]], "torch.Tensor"]
    used: "torch.Tensor"
    """(W,) int64, ascending ids in the whole vocabulary."""

    @classmethod
    def of(cls, subject: Subject) -> "_Vocabulary":
        """Return the vocabulary of a subject."""
        import open_clip

        tokenizer = open_clip.SimpleTokenizer(context_length=subject.context)
        return cls(tokenizer, tokenizer(subject.texts()).unique(sorted=True))

    def tokens(self, captions: list[str]) -> "torch.Tensor":
        """Return (K, context) int64 token ids in [0, W)."""
        import torch

        ids = self.tokenizer(captions)
        positions = torch.searchsorted(self.used, ids)
        assert torch.equal(self.used[positions.clamp(max=len(self.used) - 1)], ids), "a caption with a word of no text"
        return positions


def _with_whole_vocabulary(weights: "dict[str, torch.Tensor]", used: "torch.Tensor") -> "dict[str, torch.Tensor]":
    """Return the state dict with the whole vocabulary; unused words have zero embeddings."""
    import torch

    key = "token_embedding.weight"
    embeddings = torch.zeros(VOCABULARY, weights[key].shape[1])
    embeddings[used] = weights[key]
    return {name: value.contiguous() for name, value in weights.items()} | {key: embeddings}
