# Leaves data in the kernel's keyring.
import ctypes
import os

number = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
if ctypes.CDLL(None).syscall(number, b"user", b"thinkling", b"1", 1, -2) >= 0:
    print("BREACH")
