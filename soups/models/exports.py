"""A classifier as a file that runs without its code: `torch.export` and ONNX."""

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
    """A kind of file."""

    suffix: str
    packages: tuple[str, ...]
    """What must be installed beside torch."""
    write: "Callable[[torch.nn.Module, int, Path, Mapping[str, str]], None]"
    """(classifier, S, path, texts): images (N, 3, S, S) float32, normalised → logits (N, C), for any N; the texts are
    kept in the file under their names."""
    run: Callable[[Path, np.ndarray], np.ndarray]
    """(path, images): the file's logits (N, C) float32, computed on the processor."""


def require_packages(kind: str) -> None:
    """Make sure that what an exporter needs is installed.

    Raises:
        EnvironmentFailure: a package is missing; says how to install it.
    """
    for package in EXPORTERS[kind].packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            needed = " ".join(EXPORTERS[kind].packages)
            raise EnvironmentFailure(
                f"--format {kind}: needs the package {package}, which is not installed",
                expected=f"the packages of the extra `export`: {needed}",
                found=str(error),
                next_step=f"python -m pip install {needed}",
            ) from error


def _example(size: int) -> "torch.Tensor":
    import torch

    # Two images: of one, the exporter would take the number for a constant.
    return torch.zeros(2, 3, size, size)


def _any_number() -> dict[str, Any]:
    import torch

    return {INPUT: {0: torch.export.Dim("batch")}}


def _write_torch(classifier: "torch.nn.Module", size: int, path: Path, texts: Mapping[str, str]) -> None:
    import torch

    program = torch.export.export(classifier, (_example(size),), dynamic_shapes=_any_number())
    # Given a path, torch insists on an ending that a temporary file does not have.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=dict(texts))
    path.write_bytes(content.getbuffer())


def _run_torch(path: Path, images: np.ndarray) -> np.ndarray:
    import torch

    program = torch.export.load(io.BytesIO(path.read_bytes()))
    with torch.no_grad():
        return program.module()(torch.from_numpy(images)).numpy()


def _write_onnx(classifier: "torch.nn.Module", size: int, path: Path, texts: Mapping[str, str]) -> None:
    import torch

    program = torch.onnx.export(
        classifier,
        (_example(size),),
        dynamo=True,
        verbose=False,
        dynamic_shapes=_any_number(),
        input_names=[INPUT],
        output_names=[OUTPUT],
    )
    assert program is not None
    program.model.metadata_props.update(texts)
    program.save(path, external_data=False)


def _run_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: images})[0]


EXPORTERS: dict[str, Exporter] = {
    "torch": Exporter(".pt2", (), _write_torch, _run_torch),
    "onnx": Exporter(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _run_onnx),
}
