# Holds the kernel up at a page fault.
import ctypes
import os

number = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
if ctypes.CDLL(None).syscall(number, 1) >= 0:
    print("BREACH")
