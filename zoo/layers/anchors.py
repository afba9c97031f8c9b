"""Anchors: boxes in the same places of every input, which a detector classifies and corrects."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> torch.Tensor:
    """Return the anchors of one place, around the origin, their corners rounded to whole pixels.

    Source: Ren et al., "Faster R-CNN", NeurIPS 2015, section 3.1.1; the order is torchvision's, sizes within ratios.

    Args:
        sizes: the square root of the area of each.
        ratios: height over width.

    Shape:
        ``(len(ratios) · len(sizes), 4)``: left, top, right, bottom.

    >>> cell_anchors([32], [1.0, 4.0])
    tensor([[-16., -16.,  16.,  16.],
            [ -8., -32.,   8.,  32.]])
    """
    scale, ratio = torch.tensor(sizes, dtype=torch.float32), torch.tensor(ratios, dtype=torch.float32)
    heights = ratio.sqrt()
    widths = 1 / heights
    w, h = ((side[:, None] * scale[None, :]).flatten() for side in (widths, heights))
    return (torch.stack([-w, -h, w, h], dim=1) / 2).round()


def grid_anchors(
    cells: Sequence[torch.Tensor], grids: Sequence[Sequence[int]], size: Sequence[int], like: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Repeat the anchors of one place at every place of each map.

    Places lie apart by the size of the input over that of the map, rounded down, as torchvision has it: it is the
    stride wherever the stride divides the input.

    Args:
        cells: of each map, its anchors around the origin, ``(A, 4)``.
        grids: of each map, its height and width.
        size: height and width of the input.
        like: dtype and device of the result are this tensor's.

    Shape:
        for each map ``(height · width · A, 4)``: left, top, right, bottom in pixels of the input; rows of the map
        first, then columns, then anchors.

    >>> [a.tolist() for a in grid_anchors([torch.tensor([[-2.0, -2.0, 2.0, 2.0]])], [(1, 2)], (8, 16), torch.empty(0))]
    [[[-2.0, -2.0, 2.0, 2.0], [6.0, -2.0, 10.0, 2.0]]]
    """
    return tuple(_repeated(cell.to(like), grid, size) for cell, grid in zip(cells, grids, strict=True))


def _repeated(cell: torch.Tensor, grid: Sequence[int], size: Sequence[int]) -> torch.Tensor:
    rows, columns = (torch.arange(n, device=cell.device) * (whole // n) for n, whole in zip(grid, size, strict=True))
    y, x = (places.flatten() for places in torch.meshgrid(rows, columns, indexing="ij"))
    places = torch.stack([x, y, x, y], dim=1)
    return (places[:, None, :] + cell[None, :, :]).reshape(-1, 4)
