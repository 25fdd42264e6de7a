"""How long these tests wait."""

from __future__ import annotations

PATIENCE = 300.0
"""Seconds to wait for something that is certain to happen; only a hanging test waits this long."""
