"""Mutations of bytes and of text, drawn from a generator with a fixed seed."""

import random
import struct
from collections.abc import Callable, Sequence

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TEXTS = (
    *(
        "",
        " ",
        ",",
        ";",
        "\t",
        '"',
        "'",
        "\n",
        "\r\n",
        ":",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "#",
        "&a",
        "*a",
        "!!python/name:os.system",
    ),
    *(
        "0",
        "-1",
        "1e999",
        "-0.0",
        "nan",
        "inf",
        "1_000",
        "0x10",
        "99999999999999999999",
        "null",
        "true",
        "no",
        "~",
        "1,5",
        "50%",
    ),
    *(
        "../x",
        "/",
        ".",
        "\x00",
        "\ufeff",
        "\x1b[31m",
        "é",
        "e\u0301",
        "中",
        "\U0001f600",
        "=1+1",
        "<b>",
        "$x$",
        "%s",
        "a" * 5000,
    ),
)


def mutate_bytes(data: bytes, others: Sequence[bytes], generator: random.Random) -> bytes:
    """Return data with one to four changes: bits, bytes, integers, slices, its end, or a part of another file."""
    changed = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        generator.choice(_BYTE_CHANGES)(changed, others, generator)
    return bytes(changed)


def mutate_text(data: bytes, others: Sequence[bytes], generator: random.Random) -> bytes:
    """Return UTF-8 text with one to four changes of lines, cells and characters; rarely of bytes."""
    if generator.random() < 0.1:
        return mutate_bytes(data, others, generator)
    text = data.decode("utf-8")
    for _ in range(generator.randint(1, 4)):
        start = generator.randint(0, len(text))
        end = min(len(text), start + generator.choice((0, 1, 1, 2, 5, 20)))
        lines = text.split("\n")
        way = generator.randrange(5)
        if way == 0:
            text = text[:start] + generator.choice(_TEXTS) + text[end:]
        elif way == 1:
            text = text[:start] + text[end:]
        elif way == 2:
            lines.insert(generator.randint(0, len(lines)), generator.choice(lines))
            text = "\n".join(lines)
        elif way == 3:
            del lines[generator.randrange(len(lines))]
            text = "\n".join(lines) if lines else ""
        else:
            line = generator.randrange(len(lines))
            separator = generator.choice(",:; ")
            cells = lines[line].split(separator)
            cells[generator.randrange(len(cells))] = generator.choice(_TEXTS)
            lines[line] = separator.join(cells)
            text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


def _flip_bit(data: bytearray, others: Sequence[bytes], generator: random.Random) -> None:
    if data:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _set_byte(data: bytearray, others: Sequence[bytes], generator: random.Random) -> None:
    if data:
        data[generator.randrange(len(data))] = generator.randrange(256)


def _set_integer(data: bytearray, others: Sequence[bytes], generator: random.Random) -> None:
    place = generator.randrange(len(data) + 1)
    data[place : place + 4] = struct.pack(generator.choice("<>") + "I", generator.choice(_NUMBERS))


def _cut_end(data: bytearray, others: Sequence[bytes], generator: random.Random) -> None:
    del data[generator.randrange(len(data) + 1) :]


def _cut_slice(data: bytearray, others: Sequence[bytes], generator: random.Random) -> None:
    place = generator.randrange(len(data) + 1)
    del data[place : place + generator.choice((1, 2, 4, 16, 64, 256))]


def _repeat_slice(data: bytearray, others: Sequence[bytes], generator: random.Random) -> None:
    place = generator.randrange(len(data) + 1)
    data[place:place] = data[place : place + generator.choice((1, 4, 16, 64, 256))] * generator.randint(1, 8)


def _insert_random(data: bytearray, others: Sequence[bytes], generator: random.Random) -> None:
    place = generator.randrange(len(data) + 1)
    data[place:place] = generator.randbytes(generator.choice((1, 2, 4, 16)))


def _splice(data: bytearray, others: Sequence[bytes], generator: random.Random) -> None:
    other = generator.choice(others)
    data[generator.randrange(len(data) + 1) :] = other[generator.randrange(len(other) + 1) :]


_Change = Callable[[bytearray, Sequence[bytes], random.Random], None]
_BYTE_CHANGES: tuple[_Change, ...] = (
    *(_flip_bit, _set_byte, _set_integer, _cut_end, _cut_slice, _repeat_slice, _insert_random, _splice),
)
