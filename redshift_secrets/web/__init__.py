"""The page in Airflow's web interface."""
