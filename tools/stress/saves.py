"""Small examples of each kind of file that the toolkit writes, with a writer and a reader."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soups.files.atomic import write_array, write_table, write_text
from soups.files.jsonl import append_record, read_records


@dataclass(frozen=True)
class Save:
    """A kind of write. The old content is that of turn 0, the new content that of turn 1."""

    name: str
    """Name of the kind."""
    file: str
    """Name of the file."""
    write: Callable[[Path, int], None]
    """Writes the content of a turn to a path; repeating it is allowed."""
    read: Callable[[Path], Any] = Path.read_bytes
    """Reads the content."""


def _write_checkpoint(path: Path, turn: int) -> None:
    from soups.checkpoints.card import Architecture, Card
    from soups.checkpoints.checkpoint import write_checkpoint
    from soups.core.preprocessing import Preprocessing

    preprocessing = Preprocessing(size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    architecture = Architecture(family="baseline", name="baseline")
    card = Card(kind="start", architecture=architecture, classes=("a", "b"), preprocessing=preprocessing)
    write_checkpoint(path, _tensors(turn), card)


def _tensors(turn: int) -> dict[str, Any]:
    import torch

    # More than a stream's buffer, and less than one.
    return {"large": torch.full((300, 100), float(turn)), "small": torch.full((3,), float(turn))}


def _write_state(path: Path, turn: int) -> None:
    from soups.training.state import StateFile

    StateFile(path, "settings", minutes=0).write({"model": _tensors(turn), "step": turn, "seen": (0.5, None)})


def _read_step(path: Path) -> int:
    """Return the step of the state that training would resume from; -1 if there is none."""
    from soups.training.state import StateFile

    state = StateFile(path, "settings", minutes=0).read()
    return -1 if state is None else int(state["step"])


def _write_mean(path: Path, turn: int) -> None:
    from soups.weights.file_mean import write_mean

    parts = [path.with_name(f"part{number}-{turn}.safetensors") for number in range(2)]
    for number, part in enumerate(parts):
        if not part.exists():
            _write_checkpoint(part, turn + number)
    write_mean(path, parts, f'{{"turn":{turn}}}', threads=1)


def _append_line(path: Path, turn: int) -> None:
    # A process killed after it wrote the line, but before it returned, writes the line again; readers take the last.
    append_record(path, {"turn": turn, "text": "x" * 5000})


def _read_turns(path: Path) -> list[int]:
    return sorted({record["turn"] for record in read_records(path)})


def _write_csv(path: Path, turn: int) -> None:
    import pandas as pd

    write_table(path, pd.DataFrame({"image": [f"{turn}-{row}.png" for row in range(500)], "target": "red"}))


def _write_settings(path: Path, turn: int) -> None:
    write_text(path, f"turn: {turn}\n")


def _write_logits(path: Path, turn: int) -> None:
    import numpy as np

    write_array(path, np.full((500, 10), turn, dtype=np.float32))


def _write_figure(path: Path, turn: int) -> None:
    from soups.report.figures.style import new_figure, save

    figure = new_figure(1, 1)
    figure.add_subplot().plot([0, turn])
    save(figure, path)


def _write_html(path: Path, turn: int) -> None:
    from soups.report.html.pages import write_page

    write_page(path, f"turn {turn}", intro=[], sections=[])


def _write_to_cache(path: Path, turn: int) -> None:
    """Write to the image cache, which names files by content: the old file stays beside the new one."""
    import numpy as np
    from PIL import Image

    from soups.data.images.cache import open_images
    from soups.data.images.geometry import Geometry

    images = [path.with_name(f"image{number}.png") for number in range(2)]
    if turn == 0:  # The images belong to the user and are not part of the save.
        for number, image in enumerate(images):
            Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(image)
    open_images([images[turn]], Geometry(64, 64), "on", path.with_name("kept"))


def _read_cached_pixels(path: Path) -> list[int]:
    """Return the grey value of each complete cache file."""
    files = path.with_name("kept").glob("[!.]*.u8")
    return sorted(content[0] for content in map(Path.read_bytes, files) if len(content) == 64 * 64 * 3)


SAVES = {
    save.name: save
    for save in (
        Save("checkpoint", "model.safetensors", _write_checkpoint),
        Save("state", "toys0.state", _write_state, _read_step),
        Save("uniform soup", "soup.safetensors", _write_mean),
        Save("log line", "log.jsonl", _append_line, _read_turns),
        Save("CSV", "table.csv", _write_csv),
        Save("settings", "settings.yaml", _write_settings),
        Save("logits", "logits.npy", _write_logits),
        Save("picture", "figure.png", _write_figure),
        Save("page", "page.html", _write_html),
        Save("image cache", "cache", _write_to_cache, _read_cached_pixels),
    )
}
