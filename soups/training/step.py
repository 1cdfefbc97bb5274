"""Steps of gradient descent: one batch each, in smaller parts where the device has no memory for the whole."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import EnvironmentFailure
from soups.core.preprocessing import Preprocessing, normalise
from soups.runtime.devices import free_memory, is_out_of_memory
from soups.runtime.process_group import ProcessGroup
from soups.training.distributed import gather_optimizer_state, load_optimizer_state
from soups.training.losses import LOSSES, LossOptions
from soups.training.mixup import mix_batch
from soups.training.rng_state import RandomState
from soups.training.settings import TrainingSettings

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


@dataclass
class OptimizerStep:
    """A classifier with its optimiser and schedule, within one phase of training."""

    accelerator: Any
    classifier: Any
    model: Any
    """The classifier as the accelerator has prepared it, once for all phases: it prepares none a second time."""
    optimizer: "torch.optim.Optimizer"
    scheduler: "torch.optim.lr_scheduler.LRScheduler"
    settings: TrainingSettings
    preprocessing: Preprocessing
    options: LossOptions
    device: str
    part: int | None
    """Images that go through the network at once, where they are fewer than a batch."""
    group: ProcessGroup
    """The processes that share each batch."""

    def __post_init__(self) -> None:
        self._stepper = self.accelerator.prepare(self.optimizer)
        self._hook = self.classifier.head.register_forward_pre_hook(self._keep_features)

    def step(self, images: "torch.Tensor", labels: "torch.Tensor", seed: int, count: int) -> float:
        """Change the weights by what one batch says.

        Where memory runs out, the parts are halved from then on, and their gradients summed to those of the batch.

        Args:
            images: (B, S, S, 3) uint8; of several processes, this one's share of the batch (with mixup, all of it).
            labels: (B,) int64.
            seed: of mixup.
            count: images in the batch.

        Returns:
            The mean loss of the images; where it is not finite, the weights are as they were.

        Raises:
            EnvironmentFailure: there is no memory for a single image.
        """
        value = self._gradients(images, labels, seed, count)
        if not np.isfinite(value):
            return value
        if self.settings.clip:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            self.accelerator.clip_grad_norm_(parameters, self.settings.clip)
        self._stepper.step()
        if not self.accelerator.optimizer_step_was_skipped:
            self.scheduler.step()
        return value

    def close(self) -> None:
        """End the phase."""
        self.accelerator.free_memory()
        self.model = None  # Its hooks on the weights would go on working beside those of the next phase.
        self._hook.remove()

    def state_dict(self) -> dict[str, Any]:
        """All but the weights."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": gather_optimizer_state(self.classifier, self.optimizer, self.group),
            "scheduler": self.scheduler.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state of the same settings."""
        self.scheduler.load_state_dict(state["scheduler"])
        load_optimizer_state(self.classifier, self.optimizer, state["optimizer"], self.group)
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _gradients(self, images: "torch.Tensor", labels: "torch.Tensor", seed: int, count: int) -> float:
        """Compute those of a batch, again in smaller parts if need be; its mean loss."""
        randomness = RandomState.now(self.device)
        statistics = [buffer.clone() for buffer in self.classifier.buffers()]
        while True:
            self._stepper.zero_grad(set_to_none=True)
            try:
                return self._sum_of_gradients(images, labels, seed, count)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(labels), error)
            # Outside of the block, in which the error holds on to the memory. What had begun is begun anew.
            self._stepper.zero_grad(set_to_none=True)
            free_memory()
            randomness.restore(self.device)
            for buffer, before in zip(self.classifier.buffers(), statistics, strict=True):
                buffer.copy_(before)

    def _halve(self, batch: int, error: Exception) -> None:
        told, size = self.part is not None, min(self.part or batch, batch)
        if self.group.size > 1:  # The others wait for gradients that will not come.
            raise EnvironmentFailure(
                f"{self.device}: out of memory with {batch} images at once on each device",
                found=str(error).splitlines()[0][:200],
                next_step="give a smaller --batch-size or more processes, or accelerate launch --use_fsdp",
            ) from None
        if size == 1:
            raise EnvironmentFailure(
                f"{self.device}: out of memory, even for one image at a time",
                found=str(error).splitlines()[0][:200],
                next_step="free memory, train a smaller model or smaller images, or give --precision bf16",
            ) from None
        self.part = size // 2
        if not told:
            text = (
                "out of memory with %d images at once: from now on they go through the network in smaller parts, whose "
                "gradients are summed to those of the batch (BatchNorm, F1Loss and ContrastiveLoss see a part alone)"
            )
            logger.warning(text, size)

    def _sum_of_gradients(self, images: "torch.Tensor", labels: "torch.Tensor", seed: int, count: int) -> float:
        inputs = normalise(images.to(self.device, non_blocking=True), self.preprocessing)
        labels = labels.to(self.device)
        targets = [(1.0, labels)]
        if self.settings.mix:
            inputs, partners, share = mix_batch(inputs, self.settings.mix, seed)
            targets = [(share, labels), (1 - share, labels[partners])]
        if self.group.size > 1:
            return self._shared_gradients(inputs, targets, count)
        size, total = min(self.part or len(labels), len(labels)), 0.0
        for start in range(0, len(labels), size):
            part = slice(start, start + size)
            logits = self.model(inputs[part])
            losses = [share * self._portion(of, part) * self._loss(logits, of[part]) for share, of in targets]
            loss = reduce(add, losses)
            self.accelerator.backward(loss)
            total += float(loss.detach())
        return total

    def _shared_gradients(
        self, inputs: "torch.Tensor", targets: "Sequence[tuple[float, torch.Tensor]]", count: int
    ) -> float:
        """Compute those of a batch of which each process of the group has a share; its mean loss."""
        if self.settings.mix:  # Partners are drawn from the whole batch, so each process has all of it.
            own = self.group.share(count) if self.group.rank < count else slice(1)
            inputs, targets = inputs[own], [(share, of[own]) for share, of in targets]
        logits = self.model(inputs)
        # Whoever got nothing computes something that counts nothing, for the others wait for its gradients.
        counts = float(self.group.rank < count)
        losses = [share * counts * self._share(of, counts, count) * self._loss(logits, of) for share, of in targets]
        loss = reduce(add, losses)
        self.accelerator.backward(loss * self.group.size)  # Gradients come to their mean over the processes.
        return self.group.total(float(loss.detach()))

    def _share(self, labels: "torch.Tensor", counts: float, count: int) -> float:
        """What this process's mean counts in the batch's: by its images, or by their class weights."""
        if self.options.class_weights is None:
            return len(labels) / count
        weight = float(self.options.class_weights[labels].sum())
        return weight / self.group.total(counts * weight)

    def _portion(self, labels: "torch.Tensor", part: slice) -> "float | torch.Tensor":
        """What a part's mean counts in the batch's: by its images, or by their class weights."""
        if len(labels[part]) == len(labels):
            return 1.0
        if self.options.class_weights is None:
            return len(labels[part]) / len(labels)
        weights = self.options.class_weights[labels]
        return weights[part].sum() / weights.sum()

    def _loss(self, logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        return LOSSES[self.settings.loss_fn](logits, labels, self._features, self.options)

    def _keep_features(self, head: Any, inputs: "tuple[torch.Tensor, ...]") -> None:
        """What the head is given, which a loss may ask for; a wrapped model gives its logits alone."""
        self._features = inputs[0].float()
