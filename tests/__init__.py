"""What must hold, each test named for it, against a real PostgreSQL and a real broker."""
