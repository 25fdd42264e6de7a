"""What runs in processes of their own. Nothing here imports anything of Airflow or of ours before the clock starts."""
