"""Conversion of Hugging Face's vision transformers: a network of timm computes the same from the converted weights."""

from pathlib import Path

import timm
import torch
from safetensors.torch import load_file, save_file

from soups.models.foreign.hugging_face import convert, is_hugging_face_vit, to_timm_names

PLACES = {
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
}


def hugging_face_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return timm's weights under the names of `ViTForImageClassification`, written out by hand."""
    named = {}
    for key, value in state.items():
        if key.startswith("blocks."):
            _, number, rest = key.split(".", 2)
            layer, (place, end) = f"vit.encoder.layer.{number}", rest.rsplit(".", 1)
            if place == "attn.qkv":
                for part, own in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    named[f"{layer}.attention.attention.{part}.{end}"] = own.clone()
            else:
                named[f"{layer}.{PLACES[place]}.{end}"] = value
        elif key.startswith("head."):
            named[f"classifier.{key[5:]}"] = value
        elif key.startswith("norm."):
            named[f"vit.layernorm.{key[5:]}"] = value
        else:
            name = key.replace("patch_embed.proj", "patch_embeddings.projection")
            named[f"vit.embeddings.{name.replace('pos_embed', 'position_embeddings')}"] = value
    return named


def test_a_converted_network_computes_the_same(tmp_path: Path) -> None:
    network = timm.create_model("test_vit", num_classes=3).eval()
    save_file(hugging_face_names(network.state_dict()), tmp_path / "model.safetensors")
    convert(tmp_path / "model.safetensors", tmp_path / "timm.safetensors")
    other = timm.create_model("test_vit", num_classes=3).eval()
    other.load_state_dict(load_file(tmp_path / "timm.safetensors"))
    pixels = torch.rand(2, 3, 160, 160)
    assert torch.equal(network(pixels), other(pixels))


def test_names_of_transformers_are_recognised() -> None:
    state = timm.create_model("test_vit", num_classes=3).state_dict()
    assert is_hugging_face_vit(hugging_face_names(state)) and not is_hugging_face_vit(state)
    assert "vit.pooler.dense.weight" not in to_timm_names({"vit.pooler.dense.weight": torch.ones(2, 2)})
