"""What happens at once, on a real PostgreSQL, in an order that the tests choose."""
