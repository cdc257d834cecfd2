"""The embedded stack: it starts for everybody, keeps its data, and leaves nothing behind."""
