"""What each command of the ledger does and refuses, settled on a real PostgreSQL."""
