"""The patience of these tests."""

from __future__ import annotations

PATIENCE = 300.0
"""Seconds to wait for something that happens in any case: only a test that hangs ever waits this long."""
