"""Time training steps and evaluation of a network alone, from pixels in memory; docs/scale.md builds on it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import BaseModel, ConfigDict, Field

from soups.cli import flags as cli
from soups.cli import outcome
from soups.core.preprocessing import normalise
from soups.models.build import build_start
from soups.models.settings import ModelSettings
from soups.runtime.devices import RuntimeSettings, autocast, limit_threads, peak_memory, resolve


class DeviceBenchSettings(BaseModel):
    """Time training steps and evaluation of a network alone: what a device can do where nothing else holds it up.

    Each step takes uint8 pixels from the processor's memory, as a fine-tune's do, normalises them on the device, and
    changes all weights by AdamW with clipped gradients. Weights and pixels are random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "ViT-B/32"
    """Any architecture of open_clip, or timm:NAME."""
    batch_size: int = Field(default=512, gt=0)
    """Images in a step."""
    classes: int = Field(default=1000, gt=1)
    """Of the head."""
    steps: int = Field(default=12, gt=0)
    """In each turn."""
    repeats: int = Field(default=3, gt=0)
    """Turns, after three steps that don't count."""
    runtime: RuntimeSettings = RuntimeSettings()


def command(given: cli.ParsedSettings[DeviceBenchSettings]) -> None:
    """Measure and print."""
    import torch

    settings, runtime = given.settings, resolve(given.settings.runtime)
    limit_threads(runtime.threads)
    names = tuple(map(str, range(settings.classes)))
    start = build_start(ModelSettings(model=settings.model, pretrained="none", head="random"), names, seed=0)
    model, device, size = start.classifier.to(runtime.device), runtime.device, start.preprocessing.size
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    pixels = torch.randint(0, 256, (settings.batch_size, size, size, 3), dtype=torch.uint8)
    labels = torch.randint(0, settings.classes, (settings.batch_size,), device=device)

    def logits() -> torch.Tensor:
        with autocast(runtime):
            found: torch.Tensor = model(normalise(pixels.to(device), start.preprocessing))
        return found.float()

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(logits(), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    @torch.inference_mode()
    def evaluate() -> None:
        logits().cpu()

    print(f"{settings.model}, {device}, {runtime.precision}, batches of {settings.batch_size}")
    for name, step in (("training", train), ("evaluation", evaluate)):
        model.train(name == "training")
        speeds = timed(step, settings, device)
        print(f"{name}: {median(speeds):.0f} images/s ({min(speeds):.0f} to {max(speeds):.0f})")
    if (peak := peak_memory(device)) is not None:
        print(f"the most memory at once: {peak / 2**30:.1f} GiB")


def timed(step: Callable[[], None], settings: DeviceBenchSettings, device: str) -> list[float]:
    """Images per second of each turn, to the device's last operation."""
    import torch

    speeds = []
    for turn in range(settings.repeats + 1):
        began, steps = time.perf_counter(), settings.steps if turn else min(3, settings.steps)
        for _ in range(steps):
            step()
        if device != "cpu":
            torch.accelerator.synchronize()
        speeds.append(steps * settings.batch_size / (time.perf_counter() - began))
    return speeds[1:]


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    return outcome.run(DeviceBenchSettings, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
