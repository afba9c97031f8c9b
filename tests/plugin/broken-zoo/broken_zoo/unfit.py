"""Things that cannot be what they are registered as, each for another reason."""

from torch import Tensor, nn

NUMBER = 7


def swallows(in_channels: int, **kwargs: int) -> nn.Module:
    return nn.Conv2d(in_channels, **kwargs)


class Untyped(nn.Module):
    def __init__(self, in_channels, width=8):
        super().__init__()


def unsayable(in_channels: int, weight: Tensor | None = None) -> nn.Module:
    return nn.Identity()


def typed_type(in_channels: int, type: str = "a") -> nn.Module:
    return nn.Identity()


class Featureless(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()


def builds_a_number(in_channels: int) -> int:
    return in_channels
