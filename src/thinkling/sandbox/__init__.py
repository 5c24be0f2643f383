"""Sandbox for untrusted Python: a fork-server in a clean interpreter, Landlock, seccomp, rlimits and time limits.

The package imports only the standard library and thinkling.errors, because most of its code runs in the clean
interpreter.
"""
