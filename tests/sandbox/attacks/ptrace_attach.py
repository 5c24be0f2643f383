# Stops another process as a debugger.
import ctypes
import os

libc = ctypes.CDLL(None)
number = {"x86_64": 101, "aarch64": 117}[os.uname().machine]
if libc.syscall(number, 0x4206, int("@VICTIM@"), 0, 0) == 0:  # PTRACE_SEIZE
    print("BREACH")
