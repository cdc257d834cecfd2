"""The ledger's rules: for each command, first every check, in the order of precedence, then the change.

Pure functions of a command, the books and the moment. After the last check of a function the change must succeed.
"""
