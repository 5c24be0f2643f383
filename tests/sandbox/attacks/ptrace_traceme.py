# Asks its parent to trace it.
import ctypes

if ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0:
    print("BREACH")
