"""The contract: the door's judgements, contents, and statuses in their order. Needs no server."""
