"""One fine-tune: from a classifier and images to weights. Knows nothing of runs, files or names."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import TrainingDiverged
from soups.core.metrics import all_scores
from soups.core.preprocessing import Preprocessing
from soups.core.progress import track
from soups.core.scores import probabilities
from soups.core.signals import Interruption, defer_interruption
from soups.data.loader import TrainingLoader
from soups.evaluation.logits import EvaluationSet
from soups.models.stages import freeze_stages
from soups.runtime.devices import Runtime, derived_seed, deterministic_algorithms, limit_threads, make_accelerator
from soups.runtime.process_group import ALONE, ProcessGroup
from soups.training.distributed import (
    check_group,
    gather_logits,
    gather_weights,
    load_weights,
    shard_classifier,
    wrap_for_group,
)
from soups.training.early_stopping import EarlyStopping
from soups.training.losses import loss_options
from soups.training.optimizers import make_optimizer, require_optimizer
from soups.training.phases import Phase, Position, make_phases
from soups.training.rng_state import RandomState
from soups.training.schedule import PLATEAU, Decay, lr_factor
from soups.training.settings import TrainingSettings
from soups.training.state import StateFile
from soups.training.step import OptimizerStep
from soups.training.training_set import TrainingSet

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

EpochRecord = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a fine-tune ends with."""

    state: "dict[str, torch.Tensor]"
    scores: dict[str, float]
    """Metric → value on the validation set."""
    part: int | None = None
    """Images that went through the network at once, where memory was too small for a batch."""


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
    file: StateFile | None = None
    """Where the state is kept to go on from; None: nowhere, and signals are left alone."""
    group: ProcessGroup = ALONE
    """The processes that train this model together; the first one writes the state and has the weights in the end."""
    best_state: "dict[str, torch.Tensor] | None" = None
    position: Position = field(default_factory=Position)
    part: int | None = None
    """Images that go through the network at once, where they are fewer than a batch."""

    def run(self) -> Outcome:
        """Train through all phases; where an earlier try has left its state, from there.

        Raises:
            Diverged: the loss is no longer a number.
            UsageError: the optimiser is unknown.
            EnvironmentFailure: memory is too small for one image, or the state cannot be written.
            KeyboardInterrupt, SystemExit: somebody asked to leave, and the state is saved.
        """
        import torch

        require_optimizer(self.settings)
        check_group(self.group, self.runtime)
        limit_threads(self.runtime.threads)
        self.seed = derived_seed(self.settings.random_seed, self.index)
        self.accelerator = make_accelerator(self.runtime)
        self.classifier.to(self.runtime.device)
        with ExitStack() as stack:
            self.interruption = stack.enter_context(defer_interruption()) if self.file is not None else Interruption()
            stack.enter_context(deterministic_algorithms(self.runtime))
            # Dropout and stochastic depth draw from torch's global generator, which is put back afterwards.
            stack.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(derived_seed(self.seed, self.group.rank) if self.group.rank else self.seed)
            self.loader = stack.enter_context(self._training_loader())
            shard_classifier(self.classifier, self.group)
            # Without accelerate's wrapping for several processes, which would outlast a phase.
            self.model = self.accelerator.prepare_model(self.classifier, evaluation_mode=True)
            saved = self._take_up()
            for phase in make_phases(self.settings):
                if phase.number >= self.position.phase:
                    self._train(phase, saved)
                    saved = None
        # Takes back the precision wrapping of `forward`.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        state = gather_weights(self.classifier, self.group) if self.best_state is None else self.best_state
        return Outcome({key: tensor.cpu() for key, tensor in state.items()}, self.position.scores, self.part)

    def _training_loader(self) -> TrainingLoader:
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
            group=ALONE if self.settings.mix else self.group,
        )

    def _take_up(self) -> dict[str, Any] | None:
        """The state that an earlier try has left; weights and position are taken from it already."""
        if self.file is None:
            return None
        # The weights, and for most optimisers twice as much beside.
        self.file.begin(3 * sum(parameter.nbytes for parameter in self.classifier.parameters()))
        saved = self.file.read()
        if saved is not None:
            self.position, self.part, self.best_state = Position(**saved["position"]), saved["part"], saved["best"]
            load_weights(self.classifier, saved["model"], self.group)
            text = "%s: going on in epoch %d, after %d of %d steps"
            logger.info(text, self.file.path, self.position.epoch + 1, self.position.step, len(self.loader))
        return saved

    def _train(self, phase: Phase, saved: dict[str, Any] | None) -> None:
        """One phase, or what is left of it after a saved state."""
        self.classifier.requires_grad_(True)
        if phase.head_only:
            self.classifier.backbone.requires_grad_(False)
        freeze_stages(self.classifier.backbone, self.settings.freeze)
        if saved is None:
            self.position = Position(phase.number, phase.first, scores=self.position.scores)
        self.watch = EarlyStopping(self.metric)
        self.descent = self._descent(phase)
        if saved is not None:
            self.watch = EarlyStopping(**saved["watch"])
            self.descent.load_state_dict(saved["descent"])
            self._restore_randomness(saved["random"])
        elif phase.number:
            self._keep(phase, end_of_epoch=True)
        while self.position.epoch < phase.end:
            self.classifier.train()
            if phase.head_only:
                self.classifier.backbone.eval()
            freeze_stages(self.classifier.backbone, self.settings.freeze)
            self._epoch(phase)
            self._end_epoch(phase)
        self.part = self.descent.part
        self.descent.close()

    def _descent(self, phase: Phase) -> OptimizerStep:
        import torch

        optimizer = make_optimizer(self.classifier, self.settings)
        return OptimizerStep(
            accelerator=self.accelerator,
            classifier=self.classifier,
            model=wrap_for_group(self.model, self.group),
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, self._schedule(phase.end - phase.first)),
            settings=self.settings,
            preprocessing=self.preprocessing,
            options=loss_options(self.settings, self.training.class_weights, self.runtime.device),
            device=self.runtime.device,
            part=self.part,
            group=self.group,
        )

    def _epoch(self, phase: Phase) -> None:
        """The steps of an epoch that are not done."""
        position, before, started = self.position, self.position.seconds, time.monotonic()
        for images, labels, _rows in self._shown():
            seed = derived_seed(self.seed, position.epoch, position.step)
            count = self.loader.batch_length(position.step)
            value = self.descent.step(images, labels, seed, count)
            if not np.isfinite(value):
                raise TrainingDiverged(
                    f"the loss became {value} in epoch {position.epoch + 1}, step {position.step + 1}",
                    expected="a finite loss",
                    next_step=f"lower the learning rate (now {self.settings.lr}) or use --precision fp32",
                )
            position.step += 1
            position.loss += value * count
            position.seconds = before + time.monotonic() - started
            if position.step < len(self.loader):
                self._keep(phase)

    def _shown(self) -> Iterable[Any]:
        """The batches of an epoch; with progress, unless other processes write to the same terminal."""
        epoch, step = self.position.epoch, self.position.step
        batches = self.loader.epoch(epoch, step)
        if self.runtime.jobs > 1 or not self.group.leads:
            return batches
        return track(batches, f"epoch {epoch + 1}", total=len(self.loader) - step)

    def _end_epoch(self, phase: Phase) -> None:
        """Validate, tell, and see how it goes on."""
        position, rows = self.position, len(self.training.rows)
        record: EpochRecord = {
            "epoch": position.epoch + 1,
            "phase": "head" if phase.head_only else "all",
            "loss": position.loss / rows,
            "lr": max(group["lr"] for group in self.descent.optimizer.param_groups),
            "images_per_second": round(rows / position.seconds, 1),
        }
        if self.descent.part is not None:
            record["micro_batch_size"] = self.descent.part
        if self._validates(position.epoch - phase.first + 1, last=position.epoch == phase.end - 1):
            position.scores = self._validate()
            record |= {"val": position.scores}
        self.on_epoch(record)
        stops = self._watches and self._stops(phase.final)
        position.epoch = phase.end if stops else position.epoch + 1
        position.step, position.loss, position.seconds = 0, 0.0, 0.0
        self._keep(phase, end_of_epoch=True)

    def _keep(self, phase: Phase, *, end_of_epoch: bool = False) -> None:
        """Save the state if it is time to, or if somebody asked to leave, who is let go then."""
        if self.file is None:
            return
        finished = phase.final and self.position.epoch == phase.end  # The model is written next.
        due = self.group.leads and not finished and self.file.is_due(end_of_epoch=end_of_epoch)
        leaving, due = self.group.any(self.interruption.number is not None, due)
        if leaving or due:
            self._save(self.file)
        if leaving:
            raise self.interruption.exception()

    def _save(self, file: StateFile) -> None:
        state = {
            "position": asdict(self.position),
            "part": self.descent.part,
            "watch": asdict(self.watch),
            "random": self.group.gather(asdict(RandomState.now(self.runtime.device))),
            "model": gather_weights(self.classifier, self.group)
            if self.group.sharded
            else self.classifier.state_dict(),
            "best": self.best_state,
            "descent": self.descent.state_dict(),
        }
        if self.group.leads:
            file.write(state)
        self.group.any(False)  # Who ends while the first one writes would end that one, too.

    @property
    def _watches(self) -> bool:
        return self.settings.patience is not None or self.settings.scheduler == PLATEAU

    def _validates(self, epochs_done: int, last: bool) -> bool:
        every = 1 if self._watches else self.settings.validate_every
        return last or (every > 0 and epochs_done % every == 0)

    def _validate(self) -> dict[str, float]:
        try:
            alone = self.file is not None and self.group.size == 1
            with self.interruption.at_once() if alone else nullcontext():
                logits = gather_logits(
                    self.classifier,
                    self.validation.images,
                    self.preprocessing,
                    self.runtime,
                    self.eval_batch_size,
                    self.group,
                )
        except (KeyboardInterrupt, SystemExit):
            if self.file is not None:
                self._save(self.file)  # After the epoch's last step: the next try begins with the validation.
            raise
        return all_scores(probabilities(logits), self.validation.labels)

    def _restore_randomness(self, states: list[dict[str, Any]]) -> None:
        """Draw on as this process of the group did; one that was not there then draws as at the beginning."""
        if self.group.rank < len(states):
            RandomState(**states[self.group.rank]).restore(self.runtime.device)

    def _stops(self, final_phase: bool) -> bool:
        """Take note of an epoch: the rate falls on a plateau, the best weights are kept; whether patience is out."""
        settings, gained = self.settings, self.watch.gains(self.position.scores)
        waited = self.watch.epochs_without_gain
        if settings.scheduler == PLATEAU and waited and waited % settings.decay_epochs == 0:
            self.position.left *= settings.decay_rate
            for group in self.descent.optimizer.param_groups:  # The rate of the next step is set already.
                group["lr"] *= settings.decay_rate
        if settings.patience is None or not final_phase:
            return False
        if gained:
            self.best_state = gather_weights(self.classifier, self.group)
        self.position.scores = self.watch.best
        return waited >= settings.patience

    def _schedule(self, epochs: int) -> Callable[[int], float]:
        """Step → factor of the peak learning rate, of a phase of so many epochs."""
        steps, settings = epochs * len(self.loader), self.settings
        decay = Decay(every=settings.decay_epochs * len(self.loader), rate=settings.decay_rate)
        return lambda step: self.position.left * lr_factor(step, steps, settings.warmup, settings.scheduler, decay)
