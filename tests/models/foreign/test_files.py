"""Files of other tools: training checkpoints, averaged weights and memory mapping."""

import argparse
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn

from soups.core.errors import DataError
from soups.models.build import build_with_weights, describe
from soups.models.foreign.files import read_foreign_state
from soups.models.foreign.state_dict import expected_tensors, translate_state
from soups.models.settings import ModelSettings

CLASSES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return random_timm("test_resnet")


def random_timm(name: str) -> nn.Module:
    """Returns a timm model with random classifier and statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = timm.create_model(name, num_classes=len(CLASSES)).eval()
        for key, tensor in model.state_dict().items():
            if key.endswith("running_mean") or key.startswith(("head.", "fc.", "classifier.")):
                tensor.normal_(std=0.1)
    return model


def images(size: int = 16) -> torch.Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def saver_folder(resnet: nn.Module, tmp_path: Path) -> tuple[Path, nn.Module]:
    """Returns the folder of checkpoints that timm's training writes, and the model with the averaged weights."""
    averaged = ModelEmaV3(resnet)
    for tensor in averaged.module.parameters():
        tensor.data.mul_(1.01)
    optimizer = torch.optim.AdamW(resnet.parameters())
    for parameter in resnet.parameters():
        parameter.grad = torch.zeros_like(parameter)
    arguments = argparse.Namespace(model="test_resnet", lr=1e-3, mean=(0.5, 0.5), amp_dtype=torch.bfloat16, none=None)
    saver = CheckpointSaver(
        resnet, optimizer, arguments, model_ema=averaged, checkpoint_dir=str(tmp_path), recovery_dir=str(tmp_path)
    )
    saver.save_checkpoint(0, 0.5)
    return tmp_path, averaged.module.eval()


def test_training_checkpoints_of_timm_have_plain_and_averaged_weights(
    resnet: nn.Module, saver_folder: tuple[Path, nn.Module]
) -> None:
    folder, averaged = saver_folder
    path = folder / "last.pth.tar"
    architecture, _ = describe(ModelSettings(model="timm:test_resnet", pretrained="none"))
    network = expected_tensors(architecture)
    for ema, reference in ((False, resnet), (True, averaged)):
        state = translate_state(read_foreign_state(path, ema=ema), network, str(path), classes=CLASSES).state
        classifier = build_with_weights(architecture, CLASSES, state, str(path))
        with torch.no_grad():
            torch.testing.assert_close(classifier(images(64)), reference(images(64)), rtol=0, atol=1e-6)
    assert (resnet(images(64)) - averaged(images(64))).abs().max() > 1e-3


def test_missing_averaged_weights_are_an_error(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": resnet.state_dict()}, tmp_path / "m.pt")
    with pytest.raises(
        DataError, match=r"m\.pt: holds no averaged weights \(EMA\)(.|\n)*epoch, state_dict(.|\n)*--ema"
    ):
        read_foreign_state(tmp_path / "m.pt", ema=True)
    save_file(resnet.state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(DataError, match=r"holds no averaged weights(.|\n)*a state dict"):
        read_foreign_state(tmp_path / "m.safetensors", ema=True)


def test_archives_are_mapped_not_read(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save({"state_dict": resnet.state_dict()}, tmp_path / "m.pt")
    architecture, _ = describe(ModelSettings(model="timm:test_resnet", pretrained="none"))
    given = read_foreign_state(tmp_path / "m.pt")
    state = translate_state(given, expected_tensors(architecture), "m.pt").state
    assert state["head.weight"].data_ptr() == given["fc.weight"].data_ptr()
    assert state["backbone.conv1.0.weight"].data_ptr() == given["conv1.0.weight"].data_ptr()


@pytest.mark.parametrize("legacy", [False, True])
def test_scores_of_numpy_and_paths_beside_the_weights_are_ignored(tmp_path: Path, legacy: bool) -> None:
    weights = {"module.a": torch.arange(3.0), "module.b": torch.ones(2, dtype=torch.float16)}
    content = {
        "state_dict": weights,
        "best": np.float64(0.91),
        "counts": [np.int64(3), np.float32(0.5)],
        "callbacks": {"folder": PurePosixPath("/x"), "args": argparse.Namespace(data=PurePosixPath("/data"))},
    }
    torch.save(content, tmp_path / "epoch=3.ckpt", _use_new_zipfile_serialization=not legacy)
    state = read_foreign_state(tmp_path / "epoch=3.ckpt")
    assert state.keys() == weights.keys() and all(torch.equal(state[key], weights[key]) for key in weights)
