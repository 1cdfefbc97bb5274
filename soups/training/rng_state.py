"""State of torch's random number generators, saved with the state of a fine-tune."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RandomState:
    """State of torch's global generators, which dropout and stochastic depth use. Field names are keys of the state
    file."""

    processor: torch.Tensor
    accelerator: torch.Tensor | None = None

    @classmethod
    def capture(cls, device: str) -> "RandomState":
        """Returns the present state of the CPU's generator and of a device's."""
        if device == "cpu":
            return cls(torch.get_rng_state())
        module, which = torch.get_device_module(torch.device(device)), (device,) if ":" in device else ()
        return cls(torch.get_rng_state(), module.get_rng_state(*which))

    def restore(self, device: str) -> None:
        """Restore both generators; a device without a saved state is left unchanged."""
        torch.set_rng_state(self.processor)
        if self.accelerator is not None and device != "cpu":
            module, which = torch.get_device_module(torch.device(device)), (device,) if ":" in device else ()
            module.set_rng_state(self.accelerator, *which)
