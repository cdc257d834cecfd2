"""From a raw message to the committing thread and back: the door, the gathering, the committer and the answers."""
