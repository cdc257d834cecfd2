"""From commands to outcomes in one SERIALIZABLE transaction. Knows nothing of threads, Celery or brokers."""
