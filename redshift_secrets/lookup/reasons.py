"""What a refusal says of a connection and its warehouse. Pure."""

from __future__ import annotations

from redshift_secrets.errors import CannotServeError
from redshift_secrets.model import ConnectionSpec, Warehouse


def refusal(spec: ConnectionSpec, reason: str) -> CannotServeError:
    """Return the refusal of a connection, which ends with the reason."""
    return CannotServeError(f"connection {spec.conn_id!r} cannot be served: {reason}")


def state(spec: ConnectionSpec) -> str:
    """Return the state of the warehouse, as AWS last gave it."""
    return spec.warehouse.status if spec.warehouse.host is not None else f"{spec.warehouse.status}, without an endpoint"


def advice_on_state(warehouse: Warehouse) -> str:
    """Return what to do about a warehouse that does not accept logins."""
    move = "move the tag to another warehouse"
    if warehouse.status.startswith("paus"):
        return f"Resume it, or {move}"
    if warehouse.is_being_deleted:
        return move.capitalize()
    return f"Wait until it is available, or {move}"
