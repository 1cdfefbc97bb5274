"""One fine-tune: from a classifier and images to weights. Knows nothing of runs, files or names."""

import copy
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.data.augment import Augmentation
from soups.data.cache import Images
from soups.data.loader import TrainingLoader
from soups.errors import Diverged
from soups.evaluation.logits import EvaluationSet, compute_logits
from soups.metrics import all_scores, probabilities
from soups.models.stages import freeze
from soups.preprocessing import Preprocessing, normalise
from soups.progress import track
from soups.runtime import Runtime, derived_seed, limit_threads, make_accelerator
from soups.training.losses import LOSSES, LossOptions
from soups.training.mixup import mix
from soups.training.optimizers import make_optimizer, require_optimizer
from soups.training.schedule import PLATEAU, Decay, factor
from soups.training.settings import TrainingSettings
from soups.training.watch import Watch

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

EpochRecord = dict[str, Any]


@dataclass(frozen=True)
class TrainingSet:
    """Images to train on."""

    images: Images
    """Pixels at the training geometry."""
    labels: np.ndarray
    """(N,) int64 class indices."""
    rows: np.ndarray
    """(M,) positions in [0, N) that make an epoch; a position may come more than once (oversampling)."""
    augmentation: Augmentation
    copies: Augmentation | None = None
    """What is done to all but the first of a position that comes more than once, where that is something else."""
    chances: np.ndarray | None = None
    """(M,) with which each entry of `rows` is drawn, with replacement; None: each once an epoch."""
    class_weights: np.ndarray | None = None
    """(C,) how much an image of each class counts in the loss; None: all alike."""


@dataclass(frozen=True)
class Outcome:
    """What a fine-tune ends with."""

    state: "dict[str, torch.Tensor]"
    scores: dict[str, float]
    """Metric → value on the validation set."""


@dataclass
class Finetune:
    """A classifier being fine-tuned, phase by phase (the head alone, then everything)."""

    classifier: Any
    training: TrainingSet
    validation: EvaluationSet
    settings: TrainingSettings
    index: int
    preprocessing: Preprocessing
    metric: str
    runtime: Runtime
    eval_batch_size: int
    on_epoch: Callable[[EpochRecord], None]
    best_state: "dict[str, torch.Tensor] | None" = None
    scores: dict[str, float] = field(default_factory=dict)

    def run(self) -> Outcome:
        """Train through all phases.

        Raises:
            Diverged: the loss is no longer a number.
            UsageError: the optimiser is unknown.
        """
        import torch

        require_optimizer(self.settings)
        limit_threads(self.runtime.threads)
        self.seed = derived_seed(self.settings.random_seed, self.index)
        self.accelerator = make_accelerator(self.runtime)
        self.classifier.to(self.runtime.device)
        self.loss_options = self._loss_options()
        probe = self.settings.epochs if self.settings.freeze_backbone else self.settings.lp_epochs
        with ExitStack() as stack:
            # Dropout and stochastic depth draw from torch's global generator, which is put back afterwards.
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.callback(self.classifier.head.register_forward_pre_hook(self._keep_features).remove)
            torch.manual_seed(self.seed)
            loader = TrainingLoader(
                self.training.images,
                self.training.labels,
                self.training.rows,
                self.training.augmentation,
                batch_size=self.settings.batch_size,
                seed=self.seed,
                workers=self.runtime.workers,
                copies=self.training.copies,
                chances=self.training.chances,
            )
            self.loader = stack.enter_context(loader)
            if probe:
                self._phase(first=0, epochs=probe, head_only=True)
            if not self.settings.freeze_backbone:
                self._phase(first=probe, epochs=self.settings.epochs, head_only=False)
        state = self.best_state or self._copy_of_state()
        return Outcome({key: tensor.cpu() for key, tensor in state.items()}, self.scores)

    def _phase(self, first: int, epochs: int, head_only: bool) -> None:
        import torch

        self.classifier.requires_grad_(True)
        if head_only:
            self.classifier.backbone.requires_grad_(False)
        freeze(self.classifier.backbone, self.settings.freeze)
        optimizer = make_optimizer(self.classifier, self.settings)
        self.watch, self.left = Watch(self.metric), 1.0
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule(epochs))
        model, optimizer = self.accelerator.prepare(self.classifier, optimizer)
        for epoch in range(first, first + epochs):
            self.classifier.train()
            if head_only:
                self.classifier.backbone.eval()
            freeze(self.classifier.backbone, self.settings.freeze)
            started = time.monotonic()
            loss = self._epoch(model, optimizer, scheduler, epoch)
            last = epoch == first + epochs - 1
            record = {
                "epoch": epoch + 1,
                "phase": "head" if head_only else "all",
                "loss": loss,
                "lr": max(group["lr"] for group in optimizer.param_groups),
                "images_per_second": round(len(self.training.rows) / (time.monotonic() - started), 1),
            }
            if self._validates(epoch - first + 1, last):
                self.scores = self._validate()
                record |= {"val": self.scores}
            self.on_epoch(record)
            if self._watches and self._stops(optimizer, last_phase=not head_only or self.settings.freeze_backbone):
                break
        # Takes back the precision wrapping of `forward`, so that the next phase does not wrap it again.
        self.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        self.accelerator.free_memory()

    def _epoch(self, model: Any, optimizer: Any, scheduler: Any, epoch: int) -> float:
        """Train one epoch; the mean loss of its images."""

        total = 0.0
        for step, (images, labels, _rows) in enumerate(self._shown(epoch)):
            inputs = normalise(images.to(self.runtime.device, non_blocking=True), self.preprocessing)
            loss = self._loss(model, inputs, labels.to(self.runtime.device), derived_seed(self.seed, epoch, step))
            value = float(loss.detach())
            if not np.isfinite(value):
                raise Diverged(
                    f"the loss became {value} in epoch {epoch + 1}, step {step + 1}",
                    expected="a finite loss",
                    next_step=f"lower the learning rate (now {self.settings.lr}) or use --precision fp32",
                )
            optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            if self.settings.clip:
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                self.accelerator.clip_grad_norm_(parameters, self.settings.clip)
            optimizer.step()
            if not self.accelerator.optimizer_step_was_skipped:
                scheduler.step()
            total += value * len(labels)
        return total / len(self.training.rows)

    def _shown(self, epoch: int) -> Iterable[Any]:
        """The batches of an epoch; with progress, unless other processes write to the same terminal."""
        batches = self.loader.epoch(epoch)
        if self.runtime.jobs > 1:
            return batches
        return track(batches, f"epoch {epoch + 1}", total=len(self.loader))

    def _loss(self, model: Any, inputs: "torch.Tensor", labels: "torch.Tensor", seed: int) -> "torch.Tensor":
        loss, options = LOSSES[self.settings.loss_fn], self.loss_options
        if not self.settings.mix:
            return loss(model(inputs), labels, self.features, options)
        inputs, partners, share = mix(inputs, self.settings.mix, seed)
        logits = model(inputs)
        first = loss(logits, labels, self.features, options)
        second = loss(logits, labels[partners], self.features, options)
        return share * first + (1 - share) * second

    def _loss_options(self) -> LossOptions:
        import torch

        weights = self.training.class_weights
        return LossOptions(
            smoothing=self.settings.smoothing,
            gamma=self.settings.focal_gamma,
            contrastive_weight=self.settings.contrastive_weight,
            class_weights=None
            if weights is None
            else torch.as_tensor(weights, dtype=torch.float32, device=self.runtime.device),
        )

    def _keep_features(self, head: Any, inputs: "tuple[torch.Tensor, ...]") -> None:
        """What the head is given, which a loss may ask for; a wrapped model gives its logits alone."""
        self.features = inputs[0].float()

    @property
    def _watches(self) -> bool:
        return self.settings.patience is not None or self.settings.scheduler == PLATEAU

    def _validates(self, epochs_done: int, last: bool) -> bool:
        every = 1 if self._watches else self.settings.validate_every
        return last or (every > 0 and epochs_done % every == 0)

    def _validate(self) -> dict[str, float]:
        logits = compute_logits(
            self.classifier, self.validation.images, self.preprocessing, self.runtime, self.eval_batch_size
        )
        return all_scores(probabilities(logits), self.validation.labels)

    def _stops(self, optimizer: Any, last_phase: bool) -> bool:
        """Take note of an epoch: the rate falls on a plateau, the best weights are kept; whether patience is out."""
        settings, gained = self.settings, self.watch.gains(self.scores)
        waited = self.watch.epochs_without_gain
        if settings.scheduler == PLATEAU and waited and waited % settings.decay_epochs == 0:
            self.left *= settings.decay_rate
            for group in optimizer.param_groups:  # The rate of the next step is set already.
                group["lr"] *= settings.decay_rate
        if settings.patience is None or not last_phase:
            return False
        if gained:
            self.best_state = self._copy_of_state()
        self.scores = self.watch.best
        return waited >= settings.patience

    def _schedule(self, epochs: int) -> Callable[[int], float]:
        """Step → factor of the peak learning rate, of a phase of so many epochs."""
        steps, settings = epochs * len(self.loader), self.settings
        decay = Decay(every=settings.decay_epochs * len(self.loader), rate=settings.decay_rate)
        return lambda step: self.left * factor(step, steps, settings.warmup, settings.scheduler, decay)

    def _copy_of_state(self) -> "dict[str, torch.Tensor]":
        return {key: copy.deepcopy(tensor.detach()) for key, tensor in self.classifier.state_dict().items()}
