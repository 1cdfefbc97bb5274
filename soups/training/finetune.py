"""One fine-tune: from a classifier and images to weights. Does not know runs, their files or names."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from soups.core.metrics import all_scores
from soups.core.preprocessing import Preprocessing
from soups.core.progress import track
from soups.core.scores import softmax
from soups.core.signals import Interruption, defer_interruption
from soups.data.loader import TrainingLoader
from soups.evaluation.logits import EvaluationSet
from soups.models.stages import freeze_stages
from soups.runtime.devices import Runtime, derived_seed, deterministic_algorithms, limit_threads, make_accelerator
from soups.runtime.process_group import SINGLE_PROCESS, ProcessGroup
from soups.training import distributed
from soups.training.early_stopping import EarlyStopping, check_logits, check_step
from soups.training.losses import loss_options
from soups.training.optimizers import make_optimizer, require_optimizer
from soups.training.phases import Phase, Position, make_phases
from soups.training.rng_state import RandomState
from soups.training.schedule import PLATEAU, Decay, lr_factor
from soups.training.settings import TrainingSettings
from soups.training.state import StateFile
from soups.training.step import OptimizerStep
from soups.training.training_set import TrainingSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinetuneResult:
    """Result of a fine-tune."""

    state: dict[str, torch.Tensor]
    scores: dict[str, float]
    """Metric → value on the validation set."""
    micro_batch_size: int | None = None
    """Images per forward pass, if memory was too small for a whole batch; else None."""


@dataclass
class Finetune:
    """A classifier being fine-tuned, phase by phase (the head alone, then all weights)."""

    classifier: Any
    training: TrainingSet
    validation: EvaluationSet
    settings: TrainingSettings
    index: int
    preprocessing: Preprocessing
    metric: str
    runtime: Runtime
    eval_batch_size: int
    on_epoch: Callable[[dict[str, Any]], None]
    state_file: StateFile | None = None
    """File of the resumable state; None: no state is saved and signals keep their handlers."""
    group: ProcessGroup = SINGLE_PROCESS
    """The processes that train this model together; rank 0 writes the state and receives the final weights."""
    best_state: dict[str, torch.Tensor] | None = None
    position: Position = field(default_factory=Position)
    micro_batch_size: int | None = None
    """Images per forward pass, if fewer than a batch; None: the whole batch."""
    seed: int = field(init=False)
    accelerator: Any = field(init=False)
    interruption: Interruption = field(init=False)
    loader: TrainingLoader = field(init=False)
    model: Any = field(init=False)
    """The classifier as the accelerator has prepared it."""
    early_stopping: EarlyStopping = field(init=False)
    """The best scores of the present phase."""
    optimizer_step: OptimizerStep = field(init=False)
    """Optimiser and schedule of the present phase."""

    def run(self) -> FinetuneResult:
        """Train through all phases, from the saved state of an earlier attempt if there is one.

        Raises:
            TrainingDiverged: the loss or the logits are not finite, or the loss explodes.
            UsageError: the optimiser is unknown.
            EnvironmentFailure: memory is too small for one image, or the state cannot be written.
            KeyboardInterrupt, SystemExit: a signal asked the process to end; the state is saved.
        """
        require_optimizer(self.settings)
        distributed.check_group(self.group, self.runtime)
        limit_threads(self.runtime.threads)
        self.seed = derived_seed(self.settings.random_seed, self.index)
        self.accelerator = make_accelerator(self.runtime)
        self.classifier.to(self.runtime.device)
        with ExitStack() as stack:
            deferred = nullcontext(Interruption()) if self.state_file is None else defer_interruption()
            self.interruption = stack.enter_context(deferred)
            stack.enter_context(deterministic_algorithms(self.runtime))
            # Dropout and stochastic depth use torch's global generator, which is restored afterwards.
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(derived_seed(self.seed, self.group.rank) if self.group.rank else self.seed)
            self.loader = stack.enter_context(self._make_loader())
            distributed.shard_classifier(self.classifier, self.group)
            # Evaluation mode avoids accelerate's wrapper for several processes, which would outlast a phase.
            self.model = self.accelerator.prepare_model(self.classifier, evaluation_mode=True)
            saved = self._restore_state()
            for phase in make_phases(self.settings):
                if phase.number >= self.position.phase:
                    self._train_phase(phase, saved)
                    saved = None
        # Undoes the precision wrapper around `forward`.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        state = distributed.gather_weights(self.classifier, self.group) if self.best_state is None else self.best_state
        state = {key: tensor.cpu() for key, tensor in state.items()}
        return FinetuneResult(state, self.position.scores, self.micro_batch_size)

    def _make_loader(self) -> TrainingLoader:
        return TrainingLoader(
            self.training.images,
            self.training.labels,
            self.training.rows,
            self.training.augmentation,
            batch_size=self.settings.batch_size,
            seed=self.seed,
            workers=self.runtime.workers,
            copies=self.training.copies,
            chances=self.training.chances,
            group=SINGLE_PROCESS if self.settings.mix else self.group,
        )

    def _restore_state(self) -> dict[str, Any] | None:
        """Restore weights and position from an earlier attempt's state; returns that state, or None."""
        if self.state_file is None:
            return None
        # Expected size: the weights, and for most optimisers twice as much state.
        self.state_file.start_clock(3 * sum(parameter.nbytes for parameter in self.classifier.parameters()))
        saved = self.state_file.read()
        if saved is not None:
            self.position = Position(**saved["position"])
            self.micro_batch_size, self.best_state = saved["part"], saved["best"]
            distributed.load_weights(self.classifier, saved["model"], self.group)
            text = "%s: going on in epoch %d, after %d of %d steps"
            logger.info(text, self.state_file.path, self.position.epoch + 1, self.position.step, len(self.loader))
        return saved

    def _train_phase(self, phase: Phase, saved: dict[str, Any] | None) -> None:
        """Train one phase, or the rest of it after a saved state."""
        self.classifier.requires_grad_(True)
        if phase.head_only:
            self.classifier.backbone.requires_grad_(False)
        freeze_stages(self.classifier.backbone, self.settings.freeze)
        if saved is None:
            scores, first_loss = self.position.scores, self.position.first_loss
            self.position = Position(phase.number, phase.first, scores=scores, first_loss=first_loss)
        self.early_stopping = EarlyStopping(self.metric)
        self.optimizer_step = self._make_optimizer_step(phase)
        if saved is not None:
            self.early_stopping = EarlyStopping(**saved["watch"])
            self.optimizer_step.load_state_dict(saved["descent"])
            if self.group.rank < len(saved["random"]):  # A process without a saved state stays at its initial seed.
                RandomState(**saved["random"][self.group.rank]).restore(self.runtime.device)
        elif phase.number:
            self._save_if_due(phase, end_of_epoch=True)
        while self.position.epoch < phase.end:
            self.classifier.train()
            if phase.head_only:
                self.classifier.backbone.eval()
            freeze_stages(self.classifier.backbone, self.settings.freeze)
            self._train_epoch(phase)
            self._end_epoch(phase)
        self.micro_batch_size = self.optimizer_step.micro_batch_size
        self.optimizer_step.close()

    def _make_optimizer_step(self, phase: Phase) -> OptimizerStep:
        settings, epoch_steps = self.settings, len(self.loader)
        steps = (phase.end - phase.first) * epoch_steps
        decay = Decay(every=settings.decay_epochs * epoch_steps, rate=settings.decay_rate)

        def factor(step: int) -> float:
            return self.position.left * lr_factor(step, steps, settings.warmup, settings.scheduler, decay)

        optimizer = make_optimizer(self.classifier, settings)
        return OptimizerStep(
            accelerator=self.accelerator,
            classifier=self.classifier,
            model=distributed.wrap_for_group(self.model, self.group),
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, factor),
            settings=settings,
            preprocessing=self.preprocessing,
            options=loss_options(settings, self.training.class_weights, self.runtime.device),
            device=self.runtime.device,
            micro_batch_size=self.micro_batch_size,
            group=self.group,
        )

    def _train_epoch(self, phase: Phase) -> None:
        """Run the remaining steps of an epoch."""
        position, before, started = self.position, self.position.seconds, time.monotonic()
        batches: Iterable[Any] = self.loader.epoch(position.epoch, position.step)
        if self.runtime.jobs == 1 and self.group.is_main:  # Bars of several processes would overwrite each other.
            batches = track(batches, f"epoch {position.epoch + 1}", total=len(self.loader) - position.step)
        for images, labels, _rows in batches:
            seed = derived_seed(self.seed, position.epoch, position.step)
            count = self.loader.batch_length(position.step)
            value = self.optimizer_step.step(images, labels, seed, count)
            position.step += 1
            position.loss += value * count
            position.first_loss = position.first_loss or value
            position.seconds = before + time.monotonic() - started
            is_last, images_so_far = position.step == len(self.loader), (position.step - 1) * self.settings.batch_size
            check_step(value, images_so_far + count, is_last, position, self.settings, self.runtime)
            if not is_last:
                self._save_if_due(phase)

    def _end_epoch(self, phase: Phase) -> None:
        """Validate if due, report the epoch, and move the position to the next one."""
        position, rows = self.position, len(self.training.rows)
        record: dict[str, Any] = {
            "epoch": position.epoch + 1,
            "phase": "head" if phase.head_only else "all",
            "loss": position.loss / rows,
            "lr": max(group["lr"] for group in self.optimizer_step.optimizer.param_groups),
            "images_per_second": round(rows / position.seconds, 1),
        }
        if self.optimizer_step.micro_batch_size is not None:
            record["micro_batch_size"] = self.optimizer_step.micro_batch_size
        uses_scores = self.settings.patience is not None or self.settings.scheduler == PLATEAU
        every, epochs_done = 1 if uses_scores else self.settings.validate_every, position.epoch + 1 - phase.first
        if position.epoch + 1 == phase.end or (every and epochs_done % every == 0):
            position.scores = self._validate()
            record |= {"val": position.scores}
        self.on_epoch(record)
        stop = uses_scores and self._update_early_stopping(phase.final)
        position.epoch = phase.end if stop else position.epoch + 1
        position.step, position.loss, position.seconds = 0, 0.0, 0.0
        self._save_if_due(phase, end_of_epoch=True)

    def _save_if_due(self, phase: Phase, *, end_of_epoch: bool = False) -> None:
        """Save the state if it is due, or if a signal has arrived; in that case end the process."""
        if self.state_file is None:
            return
        finished = phase.final and self.position.epoch == phase.end  # The model is written next.
        due = self.group.is_main and not finished and self.state_file.is_due(end_of_epoch=end_of_epoch)
        interrupted, due = self.group.any(self.interruption.number is not None, due)
        if interrupted or due:
            self._save_state()
        if interrupted:
            raise self.interruption.exception()

    def _save_state(self) -> None:
        if self.state_file is None:
            return
        sharded = self.group.sharded
        weights = distributed.gather_weights(self.classifier, self.group) if sharded else self.classifier.state_dict()
        state = {
            "position": asdict(self.position),
            "part": self.optimizer_step.micro_batch_size,
            "watch": asdict(self.early_stopping),
            "random": self.group.gather(asdict(RandomState.capture(self.runtime.device))),
            "model": weights,
            "best": self.best_state,
            "descent": self.optimizer_step.state_dict(),
        }
        if self.group.is_main:
            self.state_file.write(state)
        self.group.any(False)  # Barrier: a rank that exits now would abort rank 0's write.

    def _validate(self) -> dict[str, float]:
        images, values = self.validation.images, (self.preprocessing, self.runtime, self.eval_batch_size, self.group)
        try:
            with self.interruption.raise_at_once() if self.group.size == 1 else nullcontext():
                logits = distributed.gather_logits(self.classifier, images, *values)
        except (KeyboardInterrupt, SystemExit):
            self._save_state()  # After the epoch's last step: the next attempt begins with the validation.
            raise
        check_logits(logits, self.position.epoch + 1, self.settings, self.runtime)
        return all_scores(softmax(logits), self.validation.labels)

    def _update_early_stopping(self, final_phase: bool) -> bool:
        """Record an epoch's scores, decay the rate on a plateau, keep the best weights; returns whether to stop."""
        settings, improved = self.settings, self.early_stopping.update(self.position.scores)
        waited = self.early_stopping.epochs_without_gain
        if settings.scheduler == PLATEAU and waited and waited % settings.decay_epochs == 0:
            self.position.left *= settings.decay_rate
            for group in self.optimizer_step.optimizer.param_groups:  # The rate of the next step is already set.
                group["lr"] *= settings.decay_rate
        if settings.patience is None or not final_phase:
            return False
        if improved:
            self.best_state = distributed.gather_weights(self.classifier, self.group)
        self.position.scores = self.early_stopping.best
        return waited >= settings.patience
