"""Runs untrusted Python with a fork-server in a clean interpreter, Landlock, seccomp, rlimits and a wall clock.

Imports only the standard library and thinkling.errors, because most of it runs inside that interpreter.
"""
