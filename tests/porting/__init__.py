"""Books in bulk: what is exported comes back the same, and a file is imported once, however often it is begun."""
