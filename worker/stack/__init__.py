"""The embedded stack: PostgreSQL and Valkey from wheels, as children that die with their owner."""
