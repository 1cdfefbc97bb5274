"""timm's constructor: arguments, their names, and networks that cannot be built or do not run."""

import pytest
import torch

from soups.models.timm.constructor import CannotBuild, build, check_runs, count_features, known_arguments


def test_arguments_reach_the_network_and_classes_make_a_classifier() -> None:
    model = build("test_vit", {"depth": 2}, classes=5)
    assert len(model.blocks) == 2 and model(torch.zeros(1, 3, 160, 160)).shape == (1, 5)
    assert count_features(build("test_vit", {})) == model.num_features


def test_an_unknown_argument_is_named() -> None:
    with pytest.raises(CannotBuild) as caught:
        build("test_vit", {"detph": 2})
    assert caught.value.unknown == "detph"
    assert "depth" in known_arguments("test_vit") and "num_classes" not in known_arguments("test_vit")


@pytest.mark.parametrize("name", ["num_classes", "pretrained", "checkpoint_path", "features_only"])
def test_arguments_of_timm_itself_are_refused(name: str) -> None:
    with pytest.raises(CannotBuild, match=f"{name} is not an argument of the network"):
        build("test_vit", {name: 1})


def test_hidden_layers_are_removed_only_where_there_are_some() -> None:
    model = build("vgg11", {"pre_logits": False})
    assert isinstance(model.pre_logits, torch.nn.Identity) and count_features(model) == 512
    assert "pre_logits" in known_arguments("vgg11") and "pre_logits" not in known_arguments("test_vit")
    with pytest.raises(CannotBuild, match="pre_logits=False is for networks with hidden layers"):
        build("test_vit", {"pre_logits": False})


def test_an_unsupported_input_size_is_detected() -> None:
    model = build("test_vit", {}).train()
    check_runs(model, 160)
    assert model.training
    with pytest.raises(CannotBuild, match="Input height"):
        check_runs(model, 100)
