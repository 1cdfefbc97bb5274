"""Each kind of thing that the toolkit writes, small: how it is written, and how to tell what is there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soups.files.atomic import write_array, write_table, write_text
from soups.files.jsonl import append_record, read_records


@dataclass(frozen=True)
class Save:
    """A kind of write. The old content is that of turn 0, the new one that of turn 1."""

    name: str
    """What is written, in a word or two."""
    file: str
    """Its name."""
    write: Callable[[Path, int], None]
    """Write the content of a turn to a path; doing it twice is no mistake."""
    read: Callable[[Path], Any] = Path.read_bytes
    """What is there."""


def _checkpoint(path: Path, turn: int) -> None:
    from soups.checkpoints.card import Architecture, Card
    from soups.checkpoints.checkpoint import write_checkpoint
    from soups.core.preprocessing import Preprocessing

    preprocessing = Preprocessing(size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    architecture = Architecture(family="baseline", name="baseline")
    card = Card(kind="start", architecture=architecture, classes=("a", "b"), preprocessing=preprocessing)
    write_checkpoint(path, _tensors(turn), card)


def _tensors(turn: int) -> dict[str, Any]:
    import torch

    # More than a stream's buffer, and less.
    return {"large": torch.full((300, 100), float(turn)), "small": torch.full((3,), float(turn))}


def _state(path: Path, turn: int) -> None:
    from soups.training.state import StateFile

    StateFile(path, "settings", minutes=0).write({"model": _tensors(turn), "step": turn, "seen": (0.5, None)})


def _step(path: Path) -> int:
    """Of the state that training would go on from, which is all that matters; -1: from none."""
    from soups.training.state import StateFile

    state = StateFile(path, "settings", minutes=0).read()
    return -1 if state is None else int(state["step"])


def _mean(path: Path, turn: int) -> None:
    from soups.weights.file_mean import write_mean

    parts = [path.with_name(f"part{number}-{turn}.safetensors") for number in range(2)]
    for number, part in enumerate(parts):
        if not part.exists():
            _checkpoint(part, turn + number)
    write_mean(path, parts, f'{{"turn":{turn}}}', threads=1)


def _log(path: Path, turn: int) -> None:
    # Whoever is killed after the line was written and before it was told so does it again: readers take the last.
    append_record(path, {"turn": turn, "text": "x" * 5000})


def _turns(path: Path) -> list[int]:
    return sorted({record["turn"] for record in read_records(path)})


def _table(path: Path, turn: int) -> None:
    import pandas as pd

    write_table(path, pd.DataFrame({"image": [f"{turn}-{row}.png" for row in range(500)], "target": "red"}))


def _text(path: Path, turn: int) -> None:
    write_text(path, f"turn: {turn}\n")


def _logits(path: Path, turn: int) -> None:
    import numpy as np

    write_array(path, np.full((500, 10), turn, dtype=np.float32))


def _picture(path: Path, turn: int) -> None:
    from soups.report.figures.style import new_figure, save

    figure = new_figure(1, 1)
    figure.add_subplot().plot([0, turn])
    save(figure, path)


def _page(path: Path, turn: int) -> None:
    from soups.report.html.pages import write_page

    write_page(path, f"turn {turn}", intro=[], sections=[])


def _cache(path: Path, turn: int) -> None:
    """The image cache names its files by their content: the old one stays beside the new one."""
    import numpy as np
    from PIL import Image

    from soups.data.images.cache import open_images
    from soups.data.images.geometry import Geometry

    images = [path.with_name(f"image{number}.png") for number in range(2)]
    if turn == 0:  # The images are the user's: no part of what is saved.
        for number, image in enumerate(images):
            Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(image)
    open_images([images[turn]], Geometry(64, 64), "on", path.with_name("kept"))


def _pixels(path: Path) -> list[int]:
    """The grey of each whole cache file."""
    files = path.with_name("kept").glob("[!.]*.u8")
    return sorted(content[0] for content in map(Path.read_bytes, files) if len(content) == 64 * 64 * 3)


SAVES = {
    save.name: save
    for save in (
        Save("checkpoint", "model.safetensors", _checkpoint),
        Save("state", "toys0.state", _state, _step),
        Save("uniform soup", "soup.safetensors", _mean),
        Save("log line", "log.jsonl", _log, _turns),
        Save("CSV", "table.csv", _table),
        Save("settings", "settings.yaml", _text),
        Save("logits", "logits.npy", _logits),
        Save("picture", "figure.png", _picture),
        Save("page", "page.html", _page),
        Save("image cache", "cache", _cache, _pixels),
    )
}
