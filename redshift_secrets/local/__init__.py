"""The laptop stand-in: a simulated AWS, a gateway that speaks Redshift's wire protocol, and a real PostgreSQL."""
