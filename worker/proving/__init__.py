"""The proof of the books, found out from the rows alone, and the checkpoints that show it to those who hold no rows."""
