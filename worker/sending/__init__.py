"""From a file of commands to messages in the queue, and back to an outcome for each line."""
