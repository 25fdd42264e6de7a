"""The addresses of the warehouses' databases."""

from __future__ import annotations

from typing import Protocol


class EndpointDirectory(Protocol):
    """The part of the gateway that the simulated AWS needs."""

    def address_of(self, warehouse_arn: str, endpoint: str) -> tuple[str, int] | None:
        """Return host and port of `default`, `custom-domain` or `vpc:<name>`; `None` if there is none (yet)."""
