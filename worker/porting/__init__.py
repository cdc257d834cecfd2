"""Books in bulk: what a ledger holds written as commands, and files of commands and opening balances brought in."""
