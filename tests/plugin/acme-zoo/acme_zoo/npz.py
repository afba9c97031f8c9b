"""NumPy's archive as a weights format."""

import numpy as np
import torch

from zoo.weights.checkpoint import Artifact, Checkpoint
from zoo.weights.durable import replacing


class Npz:
    """Reads and writes ``.npz`` files; the description is an array of bytes."""

    def write(self, model, checkpoint, path):
        arrays = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
        told = np.frombuffer(checkpoint.artifact.dump().encode(), np.uint8)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays, **{"/zoo": told})

    def read(self, path, *, mapped=True):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        artifact = Artifact.parse(arrays.pop("/zoo").numpy().tobytes(), path)
        return Checkpoint(arrays, artifact.aliases, artifact)


NPZ = Npz()
