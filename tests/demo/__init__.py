"""That the demo's month is what it says it is."""
