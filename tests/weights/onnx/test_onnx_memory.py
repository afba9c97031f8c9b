"""Reading an ONNX file takes no memory for its tensors, and refusing a hostile one little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

MEASURE = """
from pathlib import Path
from zoo.errors import ZooError
from zoo.weights.reading import read

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024
"""

READ = """
read(Path({small!r}))
before = status("RssAnon")
tensors = read(Path({large!r})).tensors
print(tensors["w"].numel(), float(tensors["w"][-1]), status("RssAnon") - before)
"""

REFUSE = """
read(Path({small!r}))
before = status("VmHWM")
for file in sorted(Path({folder!r}).iterdir()):
    try:
        read(file)
    except ZooError as error:
        print(file.stem, error.reason, status("VmHWM") - before, sep="|")
"""


def varint(value: int) -> bytes:
    content = bytearray()
    while value >> 7:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def model(graph: bytes, *others: bytes) -> bytes:
    return message(7, message(1, b"") + graph) + b"".join(others)


def entry(key: str, value: bytes) -> bytes:
    return message(14, message(1, key.encode()) + message(2, value))


def one_tensor(numbers: int, at: int = 4) -> bytes:
    """The bytes of a file with one float32 vector ``w``, up to its values, which begin at a multiple of ``at``."""
    size = numbers * 4
    for padding in range(at):
        head = b"\x08" + varint(numbers) + b"\x10\x01" + message(8, b"w") + message(12, b"x" * padding)
        head += varint(9 << 3 | 2) + varint(size)
        tensor = varint(5 << 3 | 2) + varint(len(head) + size) + head
        graph = message(1, b"") + tensor
        content = varint(7 << 3 | 2) + varint(len(graph) + size) + graph
        if len(content) % at == 0:
            return content
    raise AssertionError("unreachable")


def with_values(file: Path, numbers: int) -> Path:
    """Write a file whose values are zeros, of which the disk holds none."""
    with file.open("wb") as opened:
        opened.write(head := one_tensor(numbers))
        opened.truncate(len(head) + numbers * 4)
    return file


def test_reading_a_large_file_takes_no_memory_for_its_tensors(python: Callable, tmp_path: Path) -> None:
    small, large = with_values(tmp_path / "small.onnx", 10), with_values(tmp_path / "large.onnx", 50_000_000)
    ran = python(MEASURE + READ.format(small=str(small), large=str(large)))
    assert ran.returncode == 0, ran.stderr
    count, last, grown = ran.stdout.split()
    assert (count, last) == ("50000000", "0.0")
    assert int(grown) < 4_000_000


def test_refusing_a_hostile_file_takes_little_memory(python: Callable, tmp_path: Path) -> None:
    small = with_values(tmp_path / "small.onnx", 10)
    many = 40_000_000
    names = b"".join(message(5, message(8, b"%x" % index)) for index in range(200_000))
    large = {
        "nodes": (model(message(1, b"") * (many // 2)), "more than 1000000 fields"),
        "initializers": (model(names), "it has more than 100000 initializers"),
        "name": (model(message(5, message(8, b"n" * many))), "more than 10000000 bytes of names"),
        "dims": (model(message(5, message(1, b"\x01" * many))), "an initializer has more than 64 dimensions"),
        "numbers": (model(message(5, b"\x08\x03\x10\x07" + message(7, b"\x01" * many))), "has more numbers than its"),
        "zoo": (model(b"", entry("zoo", b" " * many)), "its metadata is too long"),
        "tensors": (
            model(b"", entry("zoo", b'{"spec":{},"lock":{}}'), entry("zoo.initializers", b"{}"),
                  entry("zoo.tensors", b"A" * (many - 4) + b"AAA!")),
            "its metadata is damaged (zoo.tensors: ",
        ),
        "claim": (model(message(5, b"\x08" + varint(2**40) + b"\x10\x07" + message(7, b"\x01"))), "fewer numbers"),
    }  # fmt: skip
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name, (content, _) in large.items():
        (folder / f"{name}.onnx").write_bytes(content)
    ran = python(MEASURE + REFUSE.format(small=str(small), folder=str(folder)))
    assert ran.returncode == 0, ran.stderr
    told = dict(line.split("|", 1) for line in ran.stdout.splitlines())
    assert told.keys() == large.keys()
    for name, (_, reason) in large.items():
        assert reason in told[name]
        assert int(told[name].rpartition("|")[2]) < 200_000_000, told[name]
