"""A conn_id in, the fields of a Connection out."""
