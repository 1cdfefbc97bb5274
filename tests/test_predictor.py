"""`soups.load` against the pieces that it is made of."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import soups
from soups.checkpoints.card import Card
from soups.checkpoints.checkpoint import write_checkpoint
from soups.core.errors import DataError, EnvironmentFailure, UsageError
from soups.models.build import build_start
from soups.models.settings import ModelSettings

CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def checkpoint(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    start = build_start(ModelSettings(model=f"local-dir:{tiny_clip}"), CLASSES, seed=0)
    path = tmp_path_factory.mktemp("models") / "start.safetensors"
    card = Card(kind="start", architecture=start.architecture, classes=CLASSES, preprocessing=start.preprocessing)
    write_checkpoint(path, start.classifier.state_dict(), card)
    return path


def test_probabilities_are_those_of_open_clip_s_own_transform(
    checkpoint: Path, toy_data: Path, tiny_clip: Path
) -> None:
    import open_clip
    from PIL import Image

    model = soups.load(checkpoint, device="cpu")
    paths = sorted((toy_data / "test").rglob("*.png"))[:5]
    found = model.predict_proba(paths)
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    with torch.inference_mode():
        logits = model.classifier(torch.stack([transform(Image.open(path)) for path in paths]))
    assert found.dtype == np.float32
    assert model.classes == CLASSES
    assert np.allclose(found, logits.softmax(dim=1).numpy(), atol=0.02)  # bf16 where the processor has it.
    assert np.allclose(found.sum(axis=1), 1, atol=1e-6)


def test_predict_keeps_the_rows(checkpoint: Path, toy_data: Path) -> None:
    model = soups.load(str(checkpoint), device="cpu")
    paths = [str(path) for path in sorted((toy_data / "test").rglob("*.png"))[:4]]
    frame = pd.DataFrame({"other": range(4), "image": paths}, index=[7, 5, 5, 1])
    result = model.predict(frame)
    assert list(frame.columns) == ["other", "image"]
    assert list(result.columns) == ["other", "image", "target", "confidence"]
    assert result.index.tolist() == [7, 5, 5, 1]
    probabilities = model.predict_proba(paths)
    assert result["target"].tolist() == [CLASSES[index] for index in probabilities.argmax(axis=1)]
    assert result["confidence"].tolist() == probabilities.max(axis=1).tolist()


def test_nothing_to_predict(checkpoint: Path) -> None:
    model = soups.load(checkpoint, device="cpu")
    assert model.predict_proba([]).shape == (0, 3)
    assert list(model.predict(pd.DataFrame({"image": []})).columns) == ["image", "target", "confidence"]


def test_other_device_same_model(checkpoint: Path) -> None:
    model = soups.load(checkpoint, device="cpu")
    assert model.device == "cpu"
    assert model.to("cpu") is model and model.device == "cpu"
    with pytest.raises(EnvironmentFailure, match="not usable here"):
        model.to("nowhere")
    assert model.device == "cpu"


def test_what_cannot_be_predicted(checkpoint: Path, tmp_path: Path) -> None:
    model = soups.load(checkpoint, device="cpu")
    with pytest.raises(DataError, match="lacks a column"):
        model.predict(pd.DataFrame({"path": ["a.png"]}))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        model.predict_proba([tmp_path / "broken.png"])
    with pytest.raises(DataError, match="no such file"):
        soups.load(tmp_path / "none.safetensors")


def test_images_of_any_kind_give_the_same(checkpoint: Path, toy_data: Path) -> None:
    from PIL import Image

    model = soups.load(checkpoint, device="cpu")
    paths = sorted((toy_data / "test").rglob("*.png"))[:4]
    arrays = [np.array(Image.open(path)) for path in paths]
    wanted = model.predict_proba(paths)
    for given in (
        [str(path) for path in paths],
        arrays,
        np.stack(arrays),
        [paths[0], np.stack(arrays[1:3]), arrays[3]],
    ):
        assert np.array_equal(model.predict_proba(given), wanted)
    with Image.open(paths[0]) as picture:
        for one in (picture, paths[0], str(paths[0]), arrays[0]):
            assert np.array_equal(model.predict_proba(one), model.predict_proba(paths[:1]))
    mixed = pd.DataFrame({"image": pd.Series([paths[0], arrays[1]], dtype=object)})
    assert model.predict(mixed)["confidence"].tolist() == wanted[:2].max(axis=1).tolist()
    with pytest.raises(DataError, match=r"a batch in one row(.|\n)*5 images in 2 rows"):
        model.predict(pd.DataFrame({"image": pd.Series([paths[0], np.stack(arrays)], dtype=object)}))
    with pytest.raises(DataError, match=r"images\[1\]: not an array of pixels"):
        model.predict_proba([paths[0], arrays[0] / 255])


def test_features_are_those_that_the_head_sees(checkpoint: Path, toy_data: Path) -> None:
    model = soups.load(checkpoint, device="cpu", batch_size=2)
    paths = sorted((toy_data / "test").rglob("*.png"))[:3]
    features = model.features(paths)
    assert features.shape == (3, 8) and features.dtype == np.float32
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-2)
    with torch.no_grad():
        found = model.classifier.head(torch.from_numpy(features)).softmax(dim=1).numpy()
    assert np.allclose(found, model.predict_proba(paths), atol=0.02)  # bf16 where the processor has it.
    assert model.features(paths[0]).shape == (1, 8) and model.features([]).shape == (0, 8)


def test_maps_of_files_pictures_and_arrays(checkpoint: Path, toy_data: Path) -> None:
    from PIL import Image

    model = soups.load(checkpoint, device="cpu")
    path = sorted((toy_data / "test").rglob("*.png"))[0]
    heat = model.explain(path, "relevance")
    assert heat.shape == (16, 16) and heat.dtype == np.float32 and heat.min() == 0 and heat.max() == 1
    with Image.open(path) as picture:
        assert np.array_equal(model.explain(picture, "auto"), heat)
        assert np.array_equal(model.explain(np.asarray(picture), "relevance"), heat)
    assert np.array_equal(model.explain(path), model.explain(path, "gradcam++"))
    predicted = CLASSES[model.predict_proba([path])[0].argmax()]
    others = [model.explain(str(path), "relevance", target=name) for name in CLASSES]
    assert np.array_equal(others[CLASSES.index(predicted)], heat)
    assert not all(np.array_equal(other, heat) for other in others)
    assert not np.array_equal(model.explain(path, "rollout"), heat)
    for wrong, words in (({"target": "rad"}, "did you mean 'red'"), ({"method": "cam"}, "does not suit this model")):
        with pytest.raises(UsageError, match=words):
            model.explain(path, **wrong)
    with pytest.raises(DataError, match="not an array of pixels"):
        model.explain(np.zeros((4, 4)))


def test_the_table_of_contents_is_lazy() -> None:
    assert "load" in dir(soups) and "average" in dir(soups)
    with pytest.raises(AttributeError, match="no attribute 'stir'"):
        soups.stir  # noqa: B018
