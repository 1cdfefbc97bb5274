"""Steps of gradient descent: one batch each, split into micro-batches if memory is too small."""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from soups.core.errors import EnvironmentFailure
from soups.core.preprocessing import Preprocessing, normalise
from soups.runtime.devices import free_memory, is_out_of_memory
from soups.runtime.process_group import ProcessGroup
from soups.training.distributed import gather_optimizer_state, load_optimizer_state
from soups.training.losses import LOSSES, LossOptions
from soups.training.mixup import mix_batch
from soups.training.rng_state import RandomState
from soups.training.settings import TrainingSettings

logger = logging.getLogger(__name__)


@dataclass
class OptimizerStep:
    """A classifier with its optimiser and schedule, for one phase of training."""

    accelerator: Any
    classifier: Any
    model: Any
    """The classifier prepared by the accelerator, once for all phases: it cannot prepare a model twice."""
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    settings: TrainingSettings
    preprocessing: Preprocessing
    options: LossOptions
    device: str
    micro_batch_size: int | None
    """Images per forward pass, if fewer than a batch; None: the whole batch."""
    group: ProcessGroup
    """The processes that share each batch."""
    _prepared_optimizer: Any = field(init=False)
    _features_hook: Any = field(init=False)
    _features: torch.Tensor = field(init=False)
    """(B, D) float32 input of the head in the last forward pass."""

    def __post_init__(self) -> None:
        self._prepared_optimizer = self.accelerator.prepare(self.optimizer)
        self._features_hook = self.classifier.head.register_forward_pre_hook(self._store_features)

    def step(self, images: torch.Tensor, labels: torch.Tensor, seed: int, count: int) -> float:
        """Update the weights with the gradient of one batch.

        If memory runs out, the micro-batch is halved for all further steps and the gradients are summed to the
        batch's.

        Args:
            images: (B, S, S, 3) uint8; with several processes, this one's share of the batch (with mixup, all
                of it).
            labels: (B,) int64.
            seed: seed of mixup.
            count: images in the batch.

        Returns:
            The mean loss of the images; if it is not finite, the weights are unchanged.

        Raises:
            EnvironmentFailure: memory is too small for a single image.
        """
        value = self._compute_gradients(images, labels, seed, count)
        if not np.isfinite(value):
            return value
        if self.settings.clip:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            self.accelerator.clip_grad_norm_(parameters, self.settings.clip)
        self._prepared_optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped:
            self.scheduler.step()
        return value

    def close(self) -> None:
        """Release the model and its hooks at the end of the phase."""
        self.accelerator.free_memory()
        self.model = None  # Its hooks on the weights would stay active beside those of the next phase.
        self._features_hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of optimiser, scheduler and gradient scaler, without the weights."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": gather_optimizer_state(self.classifier, self.optimizer, self.group),
            "scheduler": self.scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of the same settings."""
        self.scheduler.load_state_dict(state["scheduler"])
        load_optimizer_state(self.classifier, self.optimizer, state["optimizer"], self.group)
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _compute_gradients(self, images: torch.Tensor, labels: torch.Tensor, seed: int, count: int) -> float:
        """Compute the gradients of a batch, in smaller micro-batches if memory runs out; returns its mean loss."""
        random_state = RandomState.capture(self.device)
        statistics = [buffer.clone() for buffer in self.classifier.buffers()]
        while True:
            self._prepared_optimizer.zero_grad(set_to_none=True)
            try:
                return self._accumulate_gradients(images, labels, seed, count)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_micro_batch(len(labels), error)
            # Outside of the except block, because the error holds memory. The pass is restarted from the same random
            # state and BatchNorm statistics.
            self._prepared_optimizer.zero_grad(set_to_none=True)
            free_memory()
            random_state.restore(self.device)
            for buffer, before in zip(self.classifier.buffers(), statistics, strict=True):
                buffer.copy_(before)

    def _halve_micro_batch(self, batch: int, error: Exception) -> None:
        was_halved, size = self.micro_batch_size is not None, min(self.micro_batch_size or batch, batch)
        if self.group.size > 1:  # The other processes would wait for gradients forever.
            raise EnvironmentFailure(
                f"{self.device}: out of memory with {batch} images at once on each device",
                found=str(error).splitlines()[0][:200],
                next_step="use a smaller --batch-size, more processes, or accelerate launch --use_fsdp",
            ) from None
        if size == 1:
            raise EnvironmentFailure(
                f"{self.device}: out of memory, even for one image at a time",
                found=str(error).splitlines()[0][:200],
                next_step="free memory, use a smaller model or smaller images, or start a run with --precision bf16",
            ) from None
        self.micro_batch_size = size // 2
        if not was_halved:
            text = "out of memory with %d images at once: batches are split into micro-batches from now on, and their "
            text += "gradients summed (BatchNorm, F1Loss and ContrastiveLoss see one micro-batch at a time)"
            logger.warning(text, size)

    def _accumulate_gradients(self, images: torch.Tensor, labels: torch.Tensor, seed: int, count: int) -> float:
        """Compute the gradients of a batch once; returns its mean loss."""
        inputs = normalise(images.to(self.device, non_blocking=True), self.preprocessing)
        labels = labels.to(self.device)
        targets = [(1.0, labels)]
        if self.settings.mix:
            inputs, partners, share = mix_batch(inputs, self.settings.mix, seed)
            targets = [(share, labels), (1 - share, labels[partners])]
            if self.group.size > 1:  # Partners are drawn from the whole batch, so each process has all of it.
                own = self.group.shard(count) if self.group.rank < count else slice(1)
                inputs, targets = inputs[own], [(share, of[own]) for share, of in targets]
        size = (self.micro_batch_size if self.group.size == 1 else None) or len(inputs)
        # A rank without samples runs a zero-weight pass, so that all-reduce does not hang.
        active, total = float(self.group.rank < count), 0.0
        for start in range(0, len(inputs), size):
            rows = slice(start, start + size)
            logits, loss = self.model(inputs[rows]), torch.zeros((), device=self.device)
            for share, of in targets:
                mean = LOSSES[self.settings.loss_fn](logits, of[rows], self._features, self.options)
                loss = loss + share * active * self._weight(of, rows, active, count) * mean
            self.accelerator.backward(loss * self.group.size)  # DDP averages gradients over the processes.
            total += float(loss.detach())
        return self.group.sum(total)

    def _weight(self, labels: torch.Tensor, rows: slice, active: float, count: int) -> float | torch.Tensor:
        """Returns the weight of the rows' mean loss in the batch's: by number of images, or by their class weights."""
        if self.options.class_weights is None:
            return len(labels[rows]) / count
        weights = self.options.class_weights[labels]
        if self.group.size == 1:
            return weights[rows].sum() / weights.sum()
        own_sum = float(weights.sum())
        return own_sum / self.group.sum(active * own_sum)

    def _store_features(self, head: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        """Forward hook: store the head's input as features for the loss; a wrapped model returns only logits."""
        self._features = inputs[0].float()
