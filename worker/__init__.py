"""Machinery: how commands are taken, grouped, decided, committed, answered and watched."""
