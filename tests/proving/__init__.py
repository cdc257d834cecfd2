"""The proof of the books, on real PostgreSQL."""
