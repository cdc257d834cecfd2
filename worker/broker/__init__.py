"""Taking messages from Redis without losing one: the transport, its claims, and the consumer that survives poison."""
