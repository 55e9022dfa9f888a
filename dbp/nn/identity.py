"""The identity: what goes in comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from dbp.nn.elementwise import Elementwise
from dbp.nn.layer import Array, Backward, Views, Workspace


@final
@dataclass(frozen=True)
class Identity(Elementwise):
    """y = x, dx = dy."""

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """See Layer."""
        return x, lambda dy, gradients: dy
