"""Exports a classifier to files that run without this package: `torch.export` and ONNX."""

import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.core.errors import EnvironmentFailure

if TYPE_CHECKING:
    import torch

INPUT, OUTPUT = "images", "logits"


@dataclass(frozen=True)
class Exporter:
    """A file format: how a classifier is written and run."""

    suffix: str
    packages: tuple[str, ...]
    """Packages needed in addition to torch."""
    write: "Callable[[torch.nn.Module, int, Path, Mapping[str, str]], None]"
    """(classifier, S, path, metadata): writes the program that maps images (N, 3, S, S) float32, normalised, to logits
    (N, C), for any N, with the metadata texts under their names."""
    run: Callable[[Path, np.ndarray], np.ndarray]
    """(path, images (N, 3, S, S) float32) → logits (N, C) float32, computed on the CPU."""


def require_packages(kind: str) -> None:
    """Checks that the packages of an exporter are installed.

    Raises:
        EnvironmentFailure: a package is missing; the message says how to install it.
    """
    needed = " ".join(EXPORTERS[kind].packages)
    for package in EXPORTERS[kind].packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise EnvironmentFailure(
                f"--format {kind}: needs the package {package}, which is not installed",
                expected=f"the packages of the extra `export`: {needed}",
                found=str(error),
                next_step=f"python -m pip install {needed}",
            ) from error


def _example_inputs(size: int) -> "tuple[tuple[torch.Tensor], dict[str, Any]]":
    """Returns the arguments for which a classifier is traced, and their dimensions of any size."""
    import torch

    # Two images: with one, the exporter would treat the batch size as a constant.
    return (torch.zeros(2, 3, size, size),), {INPUT: {0: torch.export.Dim("batch")}}


def _write_torch(classifier: "torch.nn.Module", size: int, path: Path, metadata: Mapping[str, str]) -> None:
    import torch

    inputs, dynamic = _example_inputs(size)
    program = torch.export.export(classifier, inputs, dynamic_shapes=dynamic)
    # Given a path, torch requires a suffix that a temporary file does not have.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=dict(metadata))
    path.write_bytes(content.getbuffer())


def _run_torch(path: Path, images: np.ndarray) -> np.ndarray:
    import torch

    program = torch.export.load(io.BytesIO(path.read_bytes()))
    with torch.no_grad():
        return program.module()(torch.from_numpy(images)).numpy()


def _write_onnx(classifier: "torch.nn.Module", size: int, path: Path, metadata: Mapping[str, str]) -> None:
    import torch

    inputs, dynamic = _example_inputs(size)
    names: Any = {"input_names": [INPUT], "output_names": [OUTPUT]}
    program = torch.onnx.export(classifier, inputs, dynamo=True, verbose=False, dynamic_shapes=dynamic, **names)
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


def _run_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: images})[0]


EXPORTERS: dict[str, Exporter] = {
    "torch": Exporter(".pt2", (), _write_torch, _run_torch),
    "onnx": Exporter(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _run_onnx),
}
