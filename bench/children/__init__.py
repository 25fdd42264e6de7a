"""The child processes. No module here imports Airflow or this package before the measurement starts."""
