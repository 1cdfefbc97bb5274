"""The subsets of a pool: logits of each mean on all test images, kept on disk, and what recipes need to choose one."""

from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from soups.core.scores import softmax
from soups.evaluation.logits import read_logits, store_logits
from soups.recipes.shared.pool import Accept, Ingredient, Pool, State, Verdict
from soups.weights.state_dict import average_states

_BATCH = 100  # Larger batches do not fit into the processor's cache.
_MEMBERS = "members"
"""The only tensor of a stand-in state: (M,) float64, the share of each fine-tune."""


class Subsets:
    """Logits, correct predictions and losses of each mean of a pool's fine-tunes on all test images.

    A subset is a bit mask: bit i is fine-tune i. Its logits are computed when they are first needed.

    Args:
        folder: of the pool, with `model_<i>.safetensors`.
        tail: the network of the fine-tunes.
        inputs: (N, C, H, W) float32, its inputs for the test images.
        labels: (N,) int64.
    """

    def __init__(self, folder: Path, tail: torch.nn.Module, inputs: np.ndarray, labels: np.ndarray) -> None:
        self.folder, self.tail, self.inputs, self.labels = folder, tail, inputs, labels
        self.models = len(list(folder.glob("model_*.safetensors")))
        self.logits = lru_cache(maxsize=None)(self._read_or_compute)
        self.losses = lru_cache(maxsize=None)(self._losses)
        self.correct = lru_cache(maxsize=None)(self._correct)

    @cached_property
    def states(self) -> list[State]:
        """The weights of the fine-tunes."""
        return [load_file(self.folder / f"model_{index}.safetensors") for index in range(self.models)]

    def _read_or_compute(self, mask: int) -> np.ndarray:
        """Return (N, K) float32 logits of the mean of a subset."""
        path = self.folder / "logits" / f"{mask:0{self.models}b}.npy"
        found = read_logits(path, len(self.labels), None)
        if found is None:
            members = [(str(index), self.states[index]) for index in members_of(mask)]
            self.tail.load_state_dict(average_states(members))
            with torch.inference_mode():
                found = np.concatenate(
                    [self.tail(batch).numpy() for batch in torch.from_numpy(self.inputs).split(_BATCH)]
                )
            store_logits(path, found)
        return found

    def _losses(self, mask: int) -> np.ndarray:
        """Return (N,) float64 log-losses of the images, clipped as `scores.log_loss` clips."""
        return image_losses(softmax(self.logits(mask)), self.labels)

    def _correct(self, mask: int) -> np.ndarray:
        """Return (N,) int8: 1 where the prediction is right."""
        return (self.logits(mask).argmax(axis=1) == self.labels).astype(np.int8)


def image_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log-loss of each image in nats, (N,) float64, clipped as `scores.log_loss` clips."""
    true_class = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.clip(true_class, np.finfo(np.float64).eps, 1.0))


def members_of(mask: int) -> list[int]:
    """Return the positions of the bits that are set."""
    return [index for index in range(mask.bit_length()) if mask >> index & 1]


class SubsetJudge:
    """A judge of stand-in states: it reads the verdict on their subset from the cached logits.

    Args:
        subsets: of the pool.
        rows: (K,) int64, the test images that are the validation set.
    """

    def __init__(self, subsets: Subsets, rows: np.ndarray) -> None:
        self.subsets, self.rows = subsets, rows
        self.verdict = lru_cache(maxsize=None)(self._verdict)

    def __call__(self, state: State, accept: Accept | None = None) -> Verdict:
        """Return the complete verdict on the mean of the state's members."""
        return self.verdict(mask_of(state))

    def _verdict(self, mask: int) -> Verdict:
        outcome = self.subsets.correct(mask)[self.rows]
        right, images = int(outcome.sum()), len(self.rows)
        log_loss = float(self.subsets.losses(mask)[self.rows].mean())
        return Verdict(right / images, images - right, images, True, log_loss, outcome)

    def pool(self) -> Pool:
        """Return the pool of the fine-tunes with their scores on these images."""
        return Pool(tuple(self._ingredient(index) for index in range(self.subsets.models)))

    def _ingredient(self, index: int) -> Ingredient:
        verdict = self.verdict(1 << index)
        state = {_MEMBERS: torch.eye(self.subsets.models, dtype=torch.float64)[index]}
        return Ingredient(
            f"model_{index}",
            f"{index:064x}",
            verdict.score,
            verdict.log_loss,
            lambda: state,
            known_verdict=lambda: verdict,
        )


def mask_of(state: State) -> int:
    """Return the subset of a stand-in state, whose members all have the same share."""
    return sum(1 << index for index in state[_MEMBERS].nonzero().ravel().tolist())
