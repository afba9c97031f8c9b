"""Load a file while another process shortens, edits and restores it: ``python meddling.py PATH ROUNDS``.

Prints how often each outcome came. An outcome is the class of a ZooError, or "right": the fingerprint of the model is
the one that was saved. Anything else ends the process with an error, as would a signal.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import random
import signal
import sys
import warnings

import zoo


def meddle(path: pathlib.Path, content: bytes) -> None:
    """Shorten, edit and restore a file in place, until killed."""
    source = random.Random(0)
    with path.open("r+b", buffering=0) as file:
        while True:
            match source.randrange(4):
                case 0:
                    file.truncate(source.randrange(len(content)))
                case 1:
                    file.truncate(0)
                case 2:
                    at = source.randrange(len(content))
                    file.seek(at)
                    file.write(os.urandom(min(64, len(content) - at)))
                case 3:
                    file.seek(0)
                    file.write(content)


def main(path: pathlib.Path, rounds: int) -> None:
    """Load it many times, meddled with."""
    warnings.simplefilter("ignore")
    content = path.read_bytes()
    model = zoo.load(path, verify=True)
    expected = zoo.fingerprint(model)
    outcomes: collections.Counter[str] = collections.Counter()
    child = os.fork()
    if not child:
        meddle(path, content)
    try:
        for _ in range(rounds):
            try:
                loaded = zoo.load(path, verify=True)
            except zoo.ZooError as error:
                outcomes[type(error).__name__] += 1
            else:
                if zoo.fingerprint(loaded) != expected:
                    raise AssertionError("a file that was verified gave another model")
                outcomes["right"] += 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    path.write_bytes(b"")
    if zoo.fingerprint(model) != expected:
        raise AssertionError("a model that was loaded changed with its file")
    print(json.dumps(outcomes))  # noqa: T201 - whoever started this reads it


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
