"""The baseline: what a competent team writes first, kept to be measured against, never to be used."""
