"""The laptop stand-in: simulated AWS, a gateway that speaks Redshift's wire protocol, a real PostgreSQL."""
