"""The doors: one thin Celery task a command type, and the scheduled work."""
