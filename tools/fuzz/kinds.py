"""The kinds of files that are mutated: valid files to begin with, the mutation, and the reader to try (`Kind`)."""

import io
import json
import random
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.fuzz.mutations import mutate_bytes, mutate_text

Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        count: mutated files of the long form.
        make: writes what the readers need into a folder, and returns the valid files: name, content, reader.
        mutate: returns changed content.
    """

    count: int
    make: Callable[[Path], list[tuple[str, bytes, Reader]]]
    mutate: Callable[[bytes, Sequence[bytes], random.Random], bytes]


def _make_images(folder: Path) -> list[tuple[str, bytes, Reader]]:
    import numpy as np
    from PIL import Image

    from soups.data.images.decode import decode

    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    forms: list[tuple[str, str, Any]] = [
        *(("PNG", mode, {}) for mode in ("RGBA", "P", "L", "1", "I;16")),
        *(("JPEG", mode, {}) for mode in ("RGB", "L", "CMYK")),
        ("JPEG", "RGB", {"progressive": True}),
        *(
            ("GIF", "P", {"save_all": True, "append_images": [picture.convert("P")]}),
            ("BMP", "RGB", {}),
            ("BMP", "P", {}),
        ),
        *(
            ("TIFF", mode, {"compression": packing})
            for mode in ("RGB", "F")
            for packing in ("raw", "tiff_lzw", "tiff_deflate")
        ),
        *(("WEBP", "RGBA", {"lossless": lossless}) for lossless in (True, False)),
        *(("PPM", "RGB", {}), ("PPM", "1", {}), ("TGA", "RGBA", {"compression": "tga_rle"}), ("ICO", "RGBA", {})),
        *(("DIB", "RGB", {}), ("JPEG2000", "RGB", {}), ("MPO", "RGB", {}), ("AVIF", "RGB", {})),
    ]
    files: list[tuple[str, bytes, Reader]] = []
    Image.init()
    for number, (name, mode, options) in enumerate(forms):
        if name in Image.SAVE:
            stream = io.BytesIO()
            image = picture.convert("L").convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
            image.save(stream, format=name, **options)
            files.append((f"{number}.{name.lower()}", stream.getvalue(), decode))
    return files


def _make_checkpoints(folder: Path) -> list[tuple[str, bytes, Reader]]:
    import numpy as np
    import torch

    from soups.checkpoints.checkpoint import read_layout, read_state
    from soups.models.foreign.files import read_foreign_state

    def read(path: Path) -> object:
        read_layout(path)
        read_state(path)
        return [tensor.clone() for tensor in read_foreign_state(path).values() if tensor.numel() < 10**6]

    state = {
        "conv.weight": torch.arange(48.0).reshape(4, 3, 2, 2),
        "fc.bias": torch.arange(5.0).half(),
        "steps": torch.tensor(3),
    }
    training = {"state_dict": state, "epoch": 3, "loss": np.float64(0.5), "args": Namespace(lr=0.1, folder=Path("x"))}
    lightning = {
        "state_dict": {f"model.{name}": value for name, value in state.items()},
        "pytorch-lightning_version": "2",
    }
    files: list[tuple[str, bytes, Reader]] = []
    for name, content, options in (
        *(("zip.pt", state, {}), ("legacy.pth", state, {"_use_new_zipfile_serialization": False})),
        *(("training.pt", training, {}), ("lightning.ckpt", lightning, {}), ("hub.bin", state, {})),
    ):
        stream = io.BytesIO()
        torch.save(content, stream, **options)
        files.append((name, stream.getvalue(), read))
    from safetensors.torch import save

    files.append(("weights.safetensors", save(state, metadata={"card": "{}"}), read))
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), stream)
    files.append(("script.pt", stream.getvalue(), read))
    return files


def _make_settings(folder: Path) -> list[tuple[str, bytes, Reader]]:
    from soups.cli.flags import parse
    from soups.data.augment.transforms import read_transform
    from soups.data.layouts.schema import BUILTIN, read_schema
    from soups.pipeline.settings.commands import FinetuneSettings, InferenceSettings
    from soups.training.hyperparameters import hyperparameters
    from soups.training.search_space import read_space
    from soups.training.settings import RandomRanges, TrainingSettings

    def read_finetune(path: Path) -> object:
        return parse(FinetuneSettings, ["--config", str(path)], {}, "finetune.py")

    def read_hparams(path: Path) -> object:
        return hyperparameters(TrainingSettings(hparams=str(path)), RandomRanges(), 0)

    finetune = "name: photos\ndata_location: photos\nmodel: ViT-B/32\ni: 0-3\nlr: 1e-5\nepochs: 8\n"
    finetune += "hparams: random\nlr_range: [1e-6, 1e-4]\n"
    votes = "name: photos\nsoft_voting: [a.safetensors, b.safetensors]\nprobabilities: true\noutput: answer.csv\n"
    entry = {"model_0": {"lr": 3e-5, "wd": 0.01, "epochs": 4, "aug": "rand-m9-n2", "mix": 0.2, "smoothing": 0.1}}
    space = "lr: {low: 1e-6, high: 1e-4, log: true}\nepochs: {low: 4, high: 16}\nsmoothing: {choices: [0, 0.1, 0.2]}\n"
    flip = {"__class_fullname__": "HorizontalFlip", "p": 0.5}
    transform = {"transform": {"__class_fullname__": "Compose", "p": 1.0, "transforms": [flip]}}
    return [
        ("finetune.yaml", finetune.encode(), read_finetune),
        (
            "inference.yaml",
            votes.encode(),
            lambda path: parse(InferenceSettings, ["--config", str(path)], {}, "inference.py"),
        ),
        ("hparams.json", json.dumps(entry, indent=1).encode(), read_hparams),
        ("space.yaml", space.encode(), lambda path: read_space(str(path), RandomRanges(), ())),
        ("layout.yaml", BUILTIN["profile"].read_bytes(), lambda path: read_schema(str(path))),
        ("transform.yaml", json.dumps(transform, indent=1).encode(), read_transform),
    ]


def _make_tables(folder: Path) -> list[tuple[str, bytes, Reader]]:
    from soups.core.labels import LabelSpace
    from soups.data.samples import make_samples
    from soups.data.settings import DataSettings
    from soups.data.submission import read_truth, table_from_template
    from soups.data.template import read_form
    from soups.ensembles.csv_vote import vote_tables
    from tools.tried_cases.case import draw_classes

    draw_classes(folder / "data", ("cat", "dog"), 6)
    images = [f"{name}/{number:03d}.png" for name in ("cat", "dog") for number in range(6)]
    space = LabelSpace(("cat", "dog"))
    rows = [(image, image[:3]) for image in images]
    labels = "image,label,group\n" + "".join(f"{image},{label},{image[-5]}\n" for image, label in rows)
    answers = "image,target,confidence\n" + "".join(f"{image},{label},0.75\n" for image, label in rows)
    shares = "image,label,cat,dog\n" + "".join(f"{image},{label},0.25,0.75\n" for image, label in rows)
    template = "id,label,Usage\n" + "".join(f"{image},0,Public\n" for image in images)
    fixes = "match,factor,from,to\ncat/001.png,label,cat,dog\ndog/00*.png,label,dog,cat\n"
    (folder / "answers.csv").write_text(answers)

    def samples(**options: str) -> object:
        return make_samples(DataSettings(data_location=str(folder / "data"), **options))  # type: ignore[arg-type]

    def read_template(path: Path) -> object:
        table = table_from_template(path, images)
        return table.template is not None and read_form(table.template, space)

    return [
        ("labels.csv", labels.encode(), lambda path: samples(labels=str(path))),
        ("corrections.csv", fixes.encode(), lambda path: samples(relabel=str(path))),
        ("groups.csv", labels.replace("label", "x").encode(), lambda path: samples(groups=str(path))),
        ("truth.csv", labels.encode(), lambda path: read_truth(path, images, space)),
        ("answers.csv", answers.encode(), lambda path: vote_tables([path, folder / "answers.csv"], space)),
        ("alone.csv", answers.encode(), lambda path: vote_tables([path])),
        ("shares.csv", shares.encode(), lambda path: vote_tables([path, folder / "answers.csv"], space)),
        ("template.csv", template.encode(), read_template),
    ]


KINDS: dict[str, Kind] = {
    "images": Kind(100_000, _make_images, mutate_bytes),
    "checkpoints": Kind(10_000, _make_checkpoints, mutate_bytes),
    "settings": Kind(2_000, _make_settings, mutate_text),
    "tables": Kind(2_000, _make_tables, mutate_text),
}
