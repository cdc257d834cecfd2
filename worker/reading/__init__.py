"""What people and programs look up: accounts, statements, traces, dead letters, and the proof of the books."""
