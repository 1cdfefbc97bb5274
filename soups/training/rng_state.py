"""Where torch's generators are, to be kept with the state of a fine-tune."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RandomState:
    """Where torch's global generators are: those that dropout and stochastic depth draw from."""

    processor: "torch.Tensor"
    accelerator: "torch.Tensor | None" = None

    @classmethod
    def now(cls, device: str) -> "RandomState":
        """Those of the processor and of a device."""
        import torch

        if device == "cpu":
            return cls(torch.get_rng_state())
        module, which = torch.get_device_module(torch.device(device)), (device,) if ":" in device else ()
        return cls(torch.get_rng_state(), module.get_rng_state(*which))

    def restore(self, device: str) -> None:
        """Draw from here on as from there; a device that it does not tell of is left as it is."""
        import torch

        torch.set_rng_state(self.processor)
        if self.accelerator is not None and device != "cpu":
            module, which = torch.get_device_module(torch.device(device)), (device,) if ":" in device else ()
            module.set_rng_state(self.accelerator, *which)
