"""What this package knows of Airflow."""
