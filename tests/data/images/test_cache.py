"""The image cache: equal pixels with and without it, and complete files only."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import soups.data.images.cache as module
from soups.core.errors import DataError, EnvironmentFailure
from soups.data.images.cache import Images, map_in_threads, open_images
from soups.data.images.decode import decode
from soups.data.images.geometry import Geometry, resize_and_crop
from soups.data.images.memory_cache import MemoryCachedImages
from soups.files.atomic import sha256_of
from soups.files.file_hashes import hash_files

GEOMETRY = Geometry(10, 8)


def make_images(folder: Path, count: int = 12) -> list[Path]:
    """Write images of noise, of different sizes, into two folders; return their paths."""
    random = np.random.default_rng(0)
    paths = [folder / f"{index % 2}" / f"{index}.png" for index in range(count)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = random.integers(5, 30, 2)
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return make_images(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.u8"))


def never(*_: object) -> None:
    raise AssertionError("must not be called")


@pytest.mark.parametrize("cache", ["auto", "on", "off"])
def test_same_pixels_with_and_without_cache(paths: list[Path], folder: Path, cache: str) -> None:
    doubled = [*paths, paths[3], paths[0]]
    images = open_images(doubled, GEOMETRY, cache, folder)
    assert len(images) == 14 and images.cached == (cache != "off") and len(files(folder)) == images.cached
    for index, path in enumerate(doubled):
        assert np.array_equal(images[index], resize_and_crop(decode(path), GEOMETRY))
    assert images[0].dtype == np.uint8 and images[0].shape == (8, 8, 3)
    taken = images.take([13, 2, 12])
    assert np.array_equal(taken, np.stack([images[0], images[2], images[3]])) and taken.flags.writeable


def test_opening_again_neither_hashes_nor_decodes(
    paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_images(paths, GEOMETRY, "auto", folder)
    monkeypatch.setattr(module, "read_pixels", never)
    monkeypatch.setattr("soups.files.file_hashes.sha256_of", never)
    again = open_images(paths, GEOMETRY, "auto", folder)
    assert again.file == first.file and np.array_equal(again[5], first[5])


def test_cache_off_checks_images_once(paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_images(paths, GEOMETRY, "off", folder)
    assert not files(folder) and len(list(folder.glob("*.checked"))) == 1
    monkeypatch.setattr(module, "find_unreadable", never)
    open_images(paths, GEOMETRY, "off", folder)


def test_a_changed_file_is_another_cache(paths: list[Path], folder: Path) -> None:
    before = open_images(paths, GEOMETRY, "auto", folder)
    old, stamp = before[1].copy(), paths[1].stat()
    content = bytearray(paths[1].read_bytes())
    replacement = Image.fromarray(255 - decode(paths[1]))
    replacement.save(paths[1])
    after = open_images(paths, GEOMETRY, "auto", folder)
    assert after.file != before.file
    assert np.array_equal(after[1], resize_and_crop(decode(paths[1]), GEOMETRY)) and not np.array_equal(after[1], old)
    assert np.array_equal(before[1], old), "a cache in use is never rewritten"
    # Same size, time set back: only the entry's own time tells.
    paths[1].write_bytes(content)
    os.utime(paths[1], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert open_images(paths, GEOMETRY, "auto", folder).file == before.file


def test_the_cache_key_depends_on_content_not_on_paths(paths: list[Path], folder: Path, tmp_path: Path) -> None:
    one = open_images(paths, GEOMETRY, "auto", folder)
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = [tmp_path / "moved" / path.relative_to(tmp_path / "data") for path in paths]
    assert open_images(moved, GEOMETRY, "auto", folder).file == one.file
    for geometry in (Geometry(12, 8), Geometry(10, 8, "bilinear"), Geometry(10, 8, mode="squash")):
        assert open_images(moved, geometry, "auto", folder).file != one.file
    assert open_images(moved[::-1], GEOMETRY, "auto", folder).file != one.file


def test_the_map_is_read_only(paths: list[Path], folder: Path) -> None:
    images = open_images(paths, GEOMETRY, "auto", folder)
    with pytest.raises(ValueError, match="read-only"):
        images[0][:] = 0


def test_a_pickle_is_small_and_maps_the_file_again(paths: list[Path], folder: Path) -> None:
    images = open_images(paths, GEOMETRY, "auto", folder)
    pixels = images[4].copy()
    assert len(pickle.dumps(images)) < 200 * len(paths)
    assert np.array_equal(pickle.loads(pickle.dumps(images))[4], pixels)


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_all_unreadable_images_are_listed_and_no_file_is_written(paths: list[Path], folder: Path, cache: str) -> None:
    paths[2].write_text("no image", encoding="utf-8")
    paths[7].write_bytes(paths[7].read_bytes()[:60])
    paths[9].unlink()
    message = r"3 images cannot be read(.|\n)*2\.png: not an image\n(.|\n)*7\.png: damaged(.|\n)*9\.png: no such file"
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            open_images(paths, GEOMETRY, cache, folder)
    assert not files(folder) and not list(folder.glob("*.checked")) and not list(folder.glob(".*.tmp"))


def test_a_pipe_is_an_error_and_does_not_block(paths: list[Path], folder: Path) -> None:
    paths[0].unlink()
    os.mkfifo(paths[0])
    with pytest.raises(DataError, match=r"1 image cannot be read(.|\n)*a pipe or device"):
        open_images(paths, GEOMETRY, "auto", folder)


def test_a_full_disk_disables_the_cache_or_is_an_error(
    paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_SPARE_BYTES", 2**60)
    images = open_images(paths, GEOMETRY, "auto", folder)
    assert not images.cached and np.array_equal(images[3], resize_and_crop(decode(paths[3]), GEOMETRY))
    assert "no image cache, so" in caplog.text and "not enough disk space for the image cache" in caplog.text
    with pytest.raises(EnvironmentFailure, match=r"not enough disk space(.|\n)*MiB free(.|\n)*--cache off"):
        open_images(paths, GEOMETRY, "on", folder)


def test_a_folder_that_cannot_be_created_disables_the_cache(
    paths: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert not open_images(paths, GEOMETRY, "auto", blocked / "cache").cached
    assert "no image cache, so that" in caplog.text
    with pytest.raises(EnvironmentFailure, match="cannot be written"):
        open_images(paths, GEOMETRY, "on", blocked / "cache")


def test_a_truncated_cache_file_is_rebuilt(paths: list[Path], folder: Path) -> None:
    file = open_images(paths, GEOMETRY, "auto", folder).file
    assert file is not None
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    open_images(paths, GEOMETRY, "auto", folder)
    assert file.read_bytes() == content


def test_a_disk_that_fills_up_while_building(paths: list[Path], folder: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from soups.data.images.cache import open_images
from soups.data.images.geometry import Geometry
from soups.core.errors import EnvironmentFailure
paths = sorted(Path(sys.argv[1]).rglob("*.png"))
open_images(paths, Geometry(10, 8), "off", Path(sys.argv[2]))  # Remembers the hashes, so that the map is what fails.
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
assert not open_images(paths, Geometry(10, 8), "auto", Path(sys.argv[2])).cached
try:
    open_images(paths, Geometry(10, 8), "on", Path(sys.argv[2]))
except EnvironmentFailure as error:
    print(error.problem)
"""
    command = [sys.executable, "-c", code, str(paths[0].parent.parent), str(folder)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "disk full while writing" in output
    assert not files(folder) and not list(folder.glob(".*.tmp"))


def test_an_empty_set_of_images_opens(folder: Path) -> None:
    assert len(open_images([], GEOMETRY, "auto", folder)) == 0


BUILD = """
import sys, time
from pathlib import Path
import soups.data.images.cache as cache
from soups.data.images.geometry import Geometry

inner = cache.read_pixels
def slow(path):
    print("decoded", flush=True)
    time.sleep({pause})
    return inner(path)
cache.read_pixels = slow
images = cache.open_images(sorted(Path(sys.argv[1]).rglob("*.png")), Geometry(10, 8), "auto", Path(sys.argv[2]))
assert images.cached and len(images) == 12
"""


def start_build(paths: list[Path], folder: Path, pause: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BUILD.format(pause=pause), str(paths[0].parent.parent), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_build_once(paths: list[Path], folder: Path) -> None:
    builds = [start_build(paths, folder, 0.05) for _ in range(2)]
    outputs = [build.communicate(timeout=600)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0]
    assert sum(output.count("decoded") for output in outputs) == 12
    assert len(files(folder)) == 1


def test_a_killed_build_leaves_no_partial_cache(paths: list[Path], folder: Path) -> None:
    build = start_build(paths, folder, 600)
    assert build.stdout is not None and "decoded" in build.stdout.readline()
    build.send_signal(signal.SIGKILL)
    build.communicate(timeout=600)
    assert not files(folder) and list(folder.glob(".*.tmp"))
    images = open_images(sorted(paths), GEOMETRY, "auto", folder)
    assert np.array_equal(images[0], resize_and_crop(decode(sorted(paths)[0]), GEOMETRY))
    assert not list(folder.glob(".*.tmp")), "what the killed build left is cleared away"


def test_opening_1800_cached_images_decodes_none_and_needs_no_torch(tmp_path: Path) -> None:
    first = make_images(tmp_path / "data", 1)[0]
    for index in range(1, 1800):
        os.link(first, first.with_name(f"{index}.png"))
    code = """
import sys
from pathlib import Path
from soups.data.images import cache
from soups.data.images.cache import open_images
from soups.data.images.geometry import Geometry
paths = sorted(Path(sys.argv[1]).rglob("*.png"))
open_images(paths, Geometry(10, 8), "auto", Path(sys.argv[2]))
cache.read_pixels = None  # Decoding an image would raise.
images = open_images(paths, Geometry(10, 8), "auto", Path(sys.argv[2]))
assert images[1799].shape == (8, 8, 3)
assert len(paths) == 1800 and "torch" not in sys.modules
"""
    command = [sys.executable, "-c", code, str(tmp_path / "data"), str(tmp_path / "cache")]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_threads_keep_the_order(count: int) -> None:
    def late_first(item: int) -> int:
        time.sleep(0.002 if item % 7 == 0 else 0)
        return item * item

    assert list(map_in_threads(late_first, range(count))) == [item * item for item in range(count)]


def test_threads_run_only_a_little_ahead() -> None:
    begun = []
    results: Callable[[], int] = iter(map_in_threads(begun.append, range(10_000))).__next__
    results()
    time.sleep(0.05)
    assert len(begun) < 400


def test_hashes_are_those_of_the_files(paths: list[Path], folder: Path) -> None:
    for _ in range(2):
        assert hash_files(paths, folder) == [sha256_of(path) for path in paths]
    memory = next(folder.glob("hashes-*.json"))
    for damage in (b"", b"[]", b'{"a": [1]}', b"\xff"):
        memory.write_bytes(damage)
        assert hash_files(paths, folder) == [sha256_of(path) for path in paths]


def test_paths_are_decoded_on_demand(paths: list[Path]) -> None:
    images = Images(paths, GEOMETRY)
    assert not images.cached and images.take([]).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_subset_reads_the_same_pixels(paths: list[Path], folder: Path, cache: str) -> None:
    images = open_images([*paths, paths[3]], GEOMETRY, cache, folder)
    part = images.subset([12, 5, 0])
    assert part.cached is images.cached and part.paths == [paths[3], paths[5], paths[0]]
    assert np.array_equal(part.take([0, 1, 2]), images.take([3, 5, 0]))
    assert np.array_equal(part[1], images[5])
    assert np.array_equal(MemoryCachedImages(part).take([2, 0, 2]), images.take([0, 3, 0]))


READER = """
import pickle, sys
from pathlib import Path

def held(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(kind))

images = pickle.loads(sys.stdin.buffer.read())
images[0]
before = held("RssAnon:"), held("RssFile:")
total = sum(int(images[index].sum()) for index in range(len(images)))
print(total, held("RssAnon:") - before[0], held("RssFile:") - before[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_processes_read_one_cache_without_copies(tmp_path: Path) -> None:
    side, count = 400, 64
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    (tmp_path / "pixels.u8").write_bytes(pixels.tobytes())
    images = Images([Path(str(index)) for index in range(count)], Geometry(side, side), tmp_path / "pixels.u8")
    content, readers = pickle.dumps(images), []
    assert len(content) < 10_000  # Pixels don't travel.
    for _ in range(2):
        readers.append(subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    for reader in readers:
        said, _ = reader.communicate(content)
        total, private, mapped = map(int, said.split())
        assert total == int(pixels.sum())
        # Of 31 MB, next to nothing is a process's own: it looks at the pages of the file that all share.
        assert private < pixels.nbytes / 10 and mapped > pixels.nbytes / 2
