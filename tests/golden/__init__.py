"""What was stored under each version of the contract, and the bytes that every later release must make of it."""
