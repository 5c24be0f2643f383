# Takes a descriptor out of another process.
import ctypes
import os

libc = ctypes.CDLL(None)
victim = libc.syscall(434, int("@VICTIM@"), 0)
taken = libc.syscall(438, victim, int("@VICTIM_DESCRIPTOR@"), 0)
print(os.pread(taken, 100, 0))
