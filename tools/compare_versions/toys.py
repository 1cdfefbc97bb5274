"""Toy data for the compared runs: tiny images, a tiny CLIP, a pool of checkpoints made elsewhere.

Uses nothing of the `soups` package, so that both versions read the same files.
"""

import json
from pathlib import Path

import numpy as np

COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
SKIN = {"male": (200, 80, 60), "female": (60, 90, 210)}
CLOTH = {"incorrect_mask": (230, 230, 90), "normal": (90, 60, 40)}
AGES = (22, 25, 41, 44, 66, 70)
PHOTOS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
TINY_CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
FOREIGN_MODELS = 3
SEARCH_SPACE = "lr: {low: 1e-4, high: 1e-2, log: true}\nepochs: {low: 1, high: 2}\n"


def make_toys(root: Path) -> None:
    """Make all toy data: folders `colours`, `faces`, `pool`, `clip`, `foreign`; files `space.yaml`, `relabel.csv`."""
    make_colours(root / "colours")
    make_faces(root / "faces")
    make_pool_images(root / "pool")
    make_clip(root / "clip")
    make_foreign_pool(root / "foreign", root / "clip")
    (root / "space.yaml").write_text(SEARCH_SPACE)


def make_colours(root: Path, people: int = 4, test_people: int = 2) -> None:
    """`train/<colour>/p<person>_<n>.png`, `test/…`, and the shift sets `noisy` and `dark`; a person is a group."""
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for person in range(people + test_people):
            for number in range(3):
                split = "train" if person < people else "test"
                file = f"{name}/p{person}_{number}.png"
                _noisy_image(root / split / file, colour, generator, noise=110)
                if split == "test":
                    _noisy_image(root / "shifts" / "noisy" / file, colour, generator, noise=140)
                    dark = (colour[0] // 2, colour[1] // 2, colour[2] // 2)
                    _noisy_image(root / "shifts" / "dark" / file, dark, generator)


def make_pool_images(root: Path) -> None:
    """Ten images of each colour in class folders, for curate.py to pick from."""
    generator = np.random.default_rng(5)
    for name, colour in COLOURS.items():
        for number in range(10):
            _noisy_image(root / name / f"{number}.png", colour, generator, noise=90)


def make_faces(root: Path, people: int = 12, test_images: int = 14) -> None:
    """Images in the layout `profile`: mask, gender and age as factors; `eval/` with a template; `truth/truth.csv`."""
    generator = np.random.default_rng(1)
    for number in range(people):
        gender, age = ("male", "female")[number % 2], AGES[number // 2 % 6]
        for photo in PHOTOS:
            folder = root / "train" / "images" / f"{number:06}_{gender}_Asian_{age}"
            _face(folder / f"{photo}.png", gender, photo, age, generator)
    template, truth = ["ImageID,ans"], ["ImageID,group,ans"]
    for number in range(test_images):
        gender, age, photo = ("male", "female")[number % 2], AGES[number % 6], PHOTOS[number % 7]
        _face(root / "eval" / "images" / f"{number:04x}.png", gender, photo, age, generator)
        mask = {"incorrect_mask": 1, "normal": 2}.get(photo, 0)
        band = 0 if age < 30 else 1 if age < 60 else 2
        template.append(f"{number:04x}.png,0")
        truth.append(f"{number:04x}.png,p{number % 5},{mask * 6 + (number % 2) * 3 + band}")
    (root / "truth").mkdir()
    (root / "eval" / "info.csv").write_text("\n".join(template) + "\n")
    (root / "truth" / "truth.csv").write_text("\n".join(truth) + "\n")


def make_clip(folder: Path) -> None:
    """A CLIP with random weights in the folder format that `local-dir:` takes."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.model.CLIP(**TINY_CLIP)
    config = {
        "model_cfg": TINY_CLIP,
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"},
    }
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def make_foreign_pool(folder: Path, clip: Path) -> None:
    """`model_<i>.pt` as the original model-soups code saves them: a CLIP under `model.` and `classification_head`."""
    import torch
    from safetensors.torch import load_file

    folder.mkdir(parents=True)
    base = load_file(clip / "open_clip_model.safetensors")
    for seed in range(FOREIGN_MODELS):
        generator = torch.Generator().manual_seed(seed)
        state = {
            f"model.{key}": value + 0.02 * torch.randn(value.shape, generator=generator) for key, value in base.items()
        }
        state["classification_head.weight"] = 30 * torch.eye(3, 8) + torch.randn((3, 8), generator=generator)
        state["classification_head.bias"] = torch.zeros(3)
        torch.save(state, folder / f"model_{seed}.pt")


def _noisy_image(path: Path, colour: tuple[int, int, int], generator: np.random.Generator, noise: int = 60) -> None:
    """Write a picture of one colour with uniform noise, 18 × 20 pixels."""
    pixels = np.array(colour) + generator.integers(-noise, noise, (18, 20, 3))
    _save(path, pixels.astype(np.float64))


def _face(path: Path, gender: str, photo: str, age: int, generator: np.random.Generator) -> None:
    """Write a picture whose upper half shows the gender, whose lower half the mask, and whose lightness the age."""
    pixels = np.empty((32, 24, 3))
    pixels[:16], pixels[16:] = SKIN[gender], CLOTH.get(photo, (70, 220, 120))
    _save(path, pixels * (0.45 + age / 130) + generator.normal(0, 12, pixels.shape))


def _save(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
