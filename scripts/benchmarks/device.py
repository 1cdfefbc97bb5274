"""Benchmark of training steps and evaluation of a network alone, from pixels in memory; docs/scaling.md uses it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import BaseModel, ConfigDict, Field

from soups.cli import outcome
from soups.cli.flags import ParsedSettings
from soups.core.preprocessing import normalise
from soups.models.build import build_start
from soups.models.settings import ModelSettings
from soups.runtime.devices import RuntimeSettings, autocast, limit_threads, peak_memory, resolve


class DeviceBenchSettings(BaseModel):
    """Time training steps and evaluation of a network alone: the upper bound of a device's speed.

    Each step takes uint8 pixels from the processor's memory like a fine-tune, normalises them on the device, and
    updates all weights by AdamW with clipped gradients. Weights and pixels are random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "ViT-B/32"
    """Any architecture of open_clip, or timm:NAME."""
    batch_size: int = Field(default=512, gt=0)
    """Images per step."""
    classes: int = Field(default=1000, gt=1)
    """Number of classes of the head."""
    steps: int = Field(default=12, gt=0)
    """Steps per turn."""
    repeats: int = Field(default=3, gt=0)
    """Turns, after three warm-up steps."""
    runtime: RuntimeSettings = RuntimeSettings()


def command(parsed: ParsedSettings[DeviceBenchSettings]) -> None:
    """Measure and print."""
    import torch

    settings, runtime = parsed.settings, resolve(parsed.settings.runtime)
    limit_threads(runtime.threads)
    names = tuple(map(str, range(settings.classes)))
    start = build_start(ModelSettings(model=settings.model, pretrained="none", head="random"), names, seed=0)
    model, device, size = start.classifier.to(runtime.device), runtime.device, start.preprocessing.size
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    pixels = torch.randint(0, 256, (settings.batch_size, size, size, 3), dtype=torch.uint8)
    labels = torch.randint(0, settings.classes, (settings.batch_size,), device=device)

    def logits() -> torch.Tensor:
        with autocast(runtime):
            outputs: torch.Tensor = model(normalise(pixels.to(device), start.preprocessing))
        return outputs.float()

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
        speeds = time_steps(step, settings, device)
        print(f"{name}: {median(speeds):.0f} images/s ({min(speeds):.0f} to {max(speeds):.0f})")
    if (peak := peak_memory(device)) is not None:
        print(f"the most memory at once: {peak / 2**30:.1f} GiB")


def time_steps(step: Callable[[], None], settings: DeviceBenchSettings, device: str) -> list[float]:
    """Return the images per second of each turn, up to the device's last operation."""
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
    """Parse, measure, and return the exit code."""
    return outcome.run(DeviceBenchSettings, command, argv)


if __name__ == "__main__":
    raise SystemExit(main())
