"""Where a client reaches a warehouse: asked of whoever runs the databases."""

from __future__ import annotations

from typing import Protocol


class EndpointDirectory(Protocol):
    """The gateway, as far as the simulated AWS needs it."""

    def address_of(self, warehouse_arn: str, endpoint: str) -> tuple[str, int] | None:
        """Host and port of `default`, `custom-domain` or `vpc:<name>`; `None` for what does not exist (yet)."""
