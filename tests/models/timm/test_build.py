"""timm's networks as backbones."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import timm.data
import torch
from timm.models import create_model

from soups.checkpoints.card import Architecture
from soups.core.errors import DataError, EnvironmentFailure, UsageError
from soups.models.build import build_empty, build_start, describe
from soups.models.settings import ModelSettings
from soups.models.timm.build import evaluation_preprocessing

CLASSES = ("cat", "dog")


def images(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_a_start_gives_timms_own_features(name: str) -> None:
    start = build_start(ModelSettings(model=f"timm:{name}", pretrained="none"), CLASSES, seed=0)
    model = create_model(name, num_classes=0).eval()
    model.load_state_dict(start.classifier.backbone.state_dict(), strict=True)
    pictures = images(start.preprocessing.size)
    with torch.no_grad():
        torch.testing.assert_close(start.classifier.features(pictures), model(pictures))
        assert start.classifier(pictures).shape == (2, 2)
    again = build_empty(start.architecture, CLASSES)
    again.load_state_dict(start.classifier.state_dict(), strict=True)
    assert torch.equal(again(pictures), start.classifier(pictures))


def test_equal_seeds_give_equal_starts() -> None:
    settings = ModelSettings(model="timm:test_vit", pretrained="none")
    first, again, other = (build_start(settings, CLASSES, seed).classifier.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "test_vit", "efficientnet_b0"])
def test_preprocessing_equals_timms_evaluation_transform(name: str) -> None:
    model = create_model(name, num_classes=0)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    preprocessing = evaluation_preprocessing(model)
    resize, crop = transform.transforms[:2]
    assert round(preprocessing.size / preprocessing.crop_fraction) == resize.size
    assert crop.size[0] == preprocessing.size
    assert resize.interpolation.value == preprocessing.interpolation
    normalise = transform.transforms[-1]
    torch.testing.assert_close(torch.tensor(preprocessing.mean), normalise.mean)
    torch.testing.assert_close(torch.tensor(preprocessing.std), normalise.std)


def test_convolutions_take_images_of_another_size() -> None:
    settings = ModelSettings(model="timm:efficientnet_b0", pretrained="none", image_size=64)
    start = build_start(settings, CLASSES, seed=0)
    usual = describe(settings.model_copy(update={"image_size": None}))[1]
    assert start.preprocessing == describe(settings)[1] and start.preprocessing.size == 64
    assert round(64 / start.preprocessing.crop_fraction) == int(64 / 0.875)
    assert (start.preprocessing.mean, usual.size) == (usual.mean, 224)
    assert start.classifier(images(64)).shape == (2, 2)
    assert start.architecture == Architecture(family="timm", name="efficientnet_b0")


@pytest.mark.parametrize(
    ("name", "size"), [("test_vit", 96), ("swin_tiny_patch4_window7_224", 64), ("swinv2_tiny_window8_256", 64)]
)
def test_transformers_are_built_for_another_size(name: str, size: int) -> None:
    small = ("embed_dim=24", "depths=[1,1,2,1]", "num_heads=[1,2,2,4]") if "swin" in name else None
    settings = ModelSettings(model=f"timm:{name}", pretrained="none", image_size=size, model_args=small)
    start = build_start(settings, CLASSES, seed=0)
    assert start.preprocessing.size == size and start.architecture.arguments["img_size"] == size
    assert describe(settings) == (start.architecture, start.preprocessing)
    again = build_empty(Architecture.model_validate_json(start.architecture.model_dump_json()), CLASSES)
    again.load_state_dict(start.classifier.state_dict(), strict=True)
    assert torch.equal(again(images(size)), start.classifier(images(size)))


def test_the_default_size_needs_no_argument() -> None:
    settings = ModelSettings(model="timm:test_vit", pretrained="none", image_size=160)
    assert build_start(settings, CLASSES, seed=0).architecture == Architecture(family="timm", name="test_vit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "timm:test_vit", "image_size": 100}, r"--image-size 100: timm:test_vit does not support(.|\n)*160"),
        ({"model": "timm:vgg11", "image_size": 16}, r"--image-size 16: timm:vgg11 does not support this input size"),
        ({"image_size": 64}, "CLIP's towers support one input size"),
    ],
)
def test_unsupported_image_sizes_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_start(ModelSettings(pretrained="none", **changes), CLASSES, seed=0)


def test_unreachable_weights_are_an_environment_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentFailure, match=r"could not fetch the weights of timm:resnet18\.a1_in1k(.|\n)*FILE"):
        build_start(ModelSettings(model="timm:resnet18"), CLASSES, seed=0)


def test_a_file_with_its_published_classifier_is_read(tmp_path: Path) -> None:
    whole = create_model("test_vit", num_classes=10)
    torch.save({"state_dict": {f"module.{key}": value for key, value in whole.state_dict().items()}}, tmp_path / "a.pt")
    settings = ModelSettings(model="timm:test_vit", pretrained=str(tmp_path / "a.pt"))
    backbone = build_start(settings, CLASSES, seed=0).classifier.backbone
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key])


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    torch.save(create_model("test_resnet").state_dict(), tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a\.pt: its weights do not fit timm:test_vit"):
        build_start(ModelSettings(model="timm:test_vit", pretrained=str(tmp_path / "a.pt")), CLASSES, seed=0)


def test_a_description_needs_no_weights() -> None:
    architecture, preprocessing = describe(ModelSettings(model="timm:test_vit"))
    assert architecture == Architecture(family="timm", name="test_vit.r160_in1k")
    assert preprocessing.size == 160


def test_a_vgg_without_its_hidden_layers(tmp_path: Path) -> None:
    """Features are those of the last convolution, pooled; weights of the hidden layers are skipped."""
    from timm.models import save_for_hf

    whole = create_model("vgg11", num_classes=3, mlp_ratio=0.01).eval()
    save_for_hf(whole, tmp_path)
    settings = ModelSettings(model=f"timm:local-dir:{tmp_path}", image_size=32, model_args=("pre_logits=False",))
    start = build_start(settings, CLASSES, seed=0)
    assert start.architecture.arguments["pre_logits"] is False and start.classifier.head.in_features == 512
    with torch.no_grad():
        expected = whole.forward_features(images(32)).mean(dim=(2, 3))
        torch.testing.assert_close(start.classifier.features(images(32)), expected)
    build_empty(start.architecture, CLASSES).load_state_dict(start.classifier.state_dict(), strict=True)
    with pytest.raises(UsageError, match=r"timm:test_vit has no argument 'pre_logits'"):
        build_start(
            ModelSettings(model="timm:test_vit", pretrained="none", model_args=("pre_logits=False",)), CLASSES, seed=0
        )


class Hub(SimpleHTTPRequestHandler):
    """Answers the two requests of the hub's client for a file: HEAD for its properties, GET for its content."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.replace("/resolve/main", ""))

    def end_headers(self) -> None:
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{abs(hash(self.path))}"')
        super().end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Starts a hub on this machine and returns the folder of its repositories, `ORG/NAME/…`."""
    offered = tmp_path / "hub"
    offered.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, directory=str(offered)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield offered
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("prefix", ["hf-hub:", "timm:hf-hub:"])
def test_a_network_from_the_hub_is_loaded(local_hub: Path, prefix: str) -> None:
    from timm.models import save_for_hf

    model = create_model("test_vit", num_classes=3, img_size=64, depth=2).eval()
    save_for_hf(model, local_hub / "someone" / "something")
    settings = ModelSettings(model=f"{prefix}someone/something")
    start = build_start(settings, CLASSES, seed=0)
    assert start.architecture.name == "test_vit" and start.architecture.arguments["depth"] == 2
    assert start.preprocessing.size == 64
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images(64)), pre_logits=True)
        torch.testing.assert_close(start.classifier.features(images(64)), expected)
    build_empty(start.architecture, CLASSES).load_state_dict(start.classifier.state_dict(), strict=True)
    assert describe(settings) == (start.architecture, start.preprocessing)
    with pytest.raises(UsageError, match=r"--pretrained in1k: neither a file nor a tag of hf-hub:someone/something"):
        build_start(settings.model_copy(update={"pretrained": "in1k"}), CLASSES, seed=0)
