"""Taking messages from Redis without losing one: the transport, its claims, its doorbells and envelopes."""
