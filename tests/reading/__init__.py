"""What is read from the database, on real PostgreSQL."""
