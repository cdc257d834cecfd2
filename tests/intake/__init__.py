"""The committing thread by itself: a real database, messages in memory."""
