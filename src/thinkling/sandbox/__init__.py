"""Runs untrusted Python: a fork-server in a clean interpreter, Landlock, seccomp, rlimits and a wall clock.

Imports the standard library and thinkling.errors alone, since most of it runs inside that interpreter.
"""
