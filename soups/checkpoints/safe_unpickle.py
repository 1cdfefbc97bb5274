"""Reads pickles of tensors with inert stand-ins: executes nothing, allocates only what the file contains.

`torch.load(weights_only=True)` runs no foreign code, but allocates whatever a file *claims*: a file of 1.5 kB can claim
400 GB, as a storage or by a call of `bytearray`. This reader accepts what checkpoints need and rejects the rest.
"""

import io
import math
import pickle
import pickletools
import re
import sys
from collections import OrderedDict
from typing import Any, BinaryIO, NamedTuple

# Storage type → dtype and bytes of one element.
_STORAGES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "UntypedStorage": ("uint8", 1),
}
# The opcodes of torch.save's format; none of them allocates memory in advance or imports by extension code.
_OPCODES = frozenset(
    """
    PROTO STOP GLOBAL REDUCE BUILD NEWOBJ BINPERSID MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    BINUNICODE BINSTRING SHORT_BINSTRING TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET
    APPEND APPENDS SETITEM SETITEMS BINGET LONG_BINGET BINPUT LONG_BINPUT
    """.split()  # noqa: SIM905 — a list of quoted words would be a page long.
)
_PLAIN_CALLS = frozenset({"torch.Size", "torch.device", "builtins.set", "__builtin__.set", "_codecs.encode"})
_TENSOR_CALLS = frozenset(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))
_PARAMETER_CALLS = frozenset({"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"})
_PATH_MODULES = ("pathlib", "pathlib._local")
_PATH_CLASSES = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
IGNORED = (
    "argparse.Namespace",  # timm's training checkpoints store their command line in it.
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    "numpy.dtype",
    *(f"{module}.{name}" for module in _PATH_MODULES for name in _PATH_CLASSES),
)
"""Globals of values beside the weights (scores, folders) that are read as empty objects."""
_SCRIPT_CLASSES, _SCRIPT_CALLS = "__torch__.", "torch.jit._pickle."
SCRIPTED = "Scripted"
_DTYPE = re.compile(r"torch\.(bool|(u?int|b?float|complex)[0-9]+[a-z0-9_]*)")


class UnsafePickle(Exception):
    """A pickle holds more than tensors and plain values."""


class PickledClass(UnsafePickle):
    """A pickle holds objects of a class outside the standard library, such as a whole network."""


# Named tuples, because a pickle's BUILD instruction cannot change them.
class ClaimedStorage(NamedTuple):
    """A storage as the pickle claims it: `elements` of a dtype, stored under `key`."""

    kind: str
    key: str
    elements: int

    @property
    def dtype(self) -> str:
        """Return torch's name of the elements' dtype."""
        return _STORAGES[self.kind][0]

    @property
    def size(self) -> int:
        """Return the claimed size in bytes."""
        return self.elements * _STORAGES[self.kind][1]


class ClaimedTensor(NamedTuple):
    """A tensor as the pickle claims it; offset and strides count elements."""

    storage: ClaimedStorage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """Return the size in bytes of a contiguous copy."""
        return math.prod(self.shape) * _STORAGES[self.storage.kind][1]

    @property
    def end(self) -> int:
        """Return the index after the last element of the storage that belongs to the tensor."""
        if 0 in self.shape:
            return self.offset
        return self.offset + 1 + sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True))


class BoundedStream:
    """A stream whose reads allocate no more than the file's size, so that `read(10**12)` of a small file is cheap.

    It has the methods that pickletools calls.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size = stream, size
        self.readline, self.tell = stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        """Read at most `count` bytes."""
        return self.stream.read(min(count, self.size - self.stream.tell()))


def check_opcodes(stream: Any, size: int) -> None:
    """Read one pickle of a stream to its end; raise `UnsafePickle` for opcodes that checkpoints do not use."""
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name not in _OPCODES:
            raise UnsafePickle(f"the pickle instruction {opcode.name}")
        # The unpickler allocates a memo as long as its largest index.
        if opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > size:
            raise UnsafePickle(f"a pickle memo of {argument} entries")


def read_without_executing(data: bytes) -> tuple[Any, set[ClaimedStorage], list[ClaimedTensor]]:
    """Return a pickle's content as plain values and stand-ins, with its storages and tensors.

    Raises:
        UnsafePickle: the pickle holds more than tensors and plain values; the message names it.
        Exception: the pickle is damaged; nearly any class is possible.
    """
    check_opcodes(io.BytesIO(data), len(data))
    storages: set[ClaimedStorage] = set()
    tensors: list[ClaimedTensor] = []

    def tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> ClaimedTensor:
        if not isinstance(storage, ClaimedStorage):
            raise UnsafePickle("a tensor without storage")
        made = ClaimedTensor(
            storage, _require_size(offset), tuple(map(_require_size, shape)), tuple(map(_require_size, stride))
        )
        tensors.append(made)
        return made

    class _Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return _make_stand_in(f"{module}.{name}", tensor)

        def persistent_load(self, identity: Any) -> Any:
            kind, storage_kind, key, _, count = identity[:5]
            name = storage_kind.name if isinstance(storage_kind, _TypeName) else ""
            if _decode_text(kind) != "storage" or name not in _STORAGES:
                raise UnsafePickle(f"a reference to {_decode_text(kind)[:60]}")
            storage = ClaimedStorage(name, _decode_text(key), _require_size(count))
            storages.add(storage)
            return storage

    return _Reader(io.BytesIO(data), encoding="bytes").load(), storages, tensors


class Ignored:
    """Replaces a value beside the weights: takes any arguments and any state, and keeps nothing."""

    def __init__(self, *arguments: object) -> None:
        del arguments

    def __setstate__(self, state: object) -> None:
        """Take any state."""


class _TypeName(NamedTuple):
    """The name of a type that the pickle refers to."""

    name: str


def _make_stand_in(name: str, tensor: Any) -> Any:
    """Return an inert object for a global of the pickle; a new one, so that no pickle can change that of another."""
    if name == "collections.OrderedDict":
        return OrderedDict
    if name in _TENSOR_CALLS:
        return _Call(tensor)
    if name in _PARAMETER_CALLS:
        return _Call(lambda data, *_: data)
    if name in _PLAIN_CALLS:
        return _Call(lambda *arguments: arguments)
    if name.startswith(_SCRIPT_CLASSES):  # A class of a TorchScript archive, of which the attributes are read.
        return type(SCRIPTED, (), {})
    if name in IGNORED:
        return type("Ignored", (Ignored,), {})
    if name.startswith(_SCRIPT_CALLS):
        return _Call(lambda value, *_: value)
    last = name.removeprefix("torch.").removeprefix("storage.")
    if (name.startswith("torch.") and last in _STORAGES) or _DTYPE.fullmatch(name):
        return _TypeName(last)
    if name.split(".")[0] not in sys.stdlib_module_names - {"__main__"} and name.split(".")[-1][:1].isupper():
        raise PickledClass(f"a pickled object of class {name}, such as a whole module")
    raise UnsafePickle(f"{name}, which is not a tensor")


class _Call:
    """A callable of a pickle without attributes that the pickle could set."""

    __slots__ = ("_function",)

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


def _decode_text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _require_size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UnsafePickle(f"{value!r:.40} where a size should be")
    return value
