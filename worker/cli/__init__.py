"""The command line `equipoise`: one module a family of commands."""
