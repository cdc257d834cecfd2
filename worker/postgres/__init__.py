"""PostgreSQL as we use it: its engines, the meaning of its errors, the ledgers' locks, and the schema's version."""
