"""The database by itself: what it refuses whatever a program does, and what its failures mean to the worker."""
