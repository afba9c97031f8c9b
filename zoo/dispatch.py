"""Dispatch: sees every operation of torch; autograd has done its part, composite ones are taken apart."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch has no types there
    """Sees every operation of a model, as its ``__torch_dispatch__`` says."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would hide the method that sees them from its compiler, for which it imports the compiler: two seconds.
        return False
