"""What holds for every sequence of commands, on a real PostgreSQL."""
