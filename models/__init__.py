"""Nouns and rules: commands, statuses, tables and pure decisions. No input or output happens here."""
