"""Things that cannot be a component, each for another reason."""

from torch import nn

NUMBER = 7


def swallows(in_channels: int, **kwargs: int) -> nn.Module:
    return nn.Conv2d(in_channels, **kwargs)


class Untyped(nn.Module):
    def __init__(self, in_channels, width=8):
        super().__init__()


class Featureless(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()


def builds_no_module(in_channels: int) -> int:
    return in_channels
