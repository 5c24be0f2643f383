# Becomes root of a user namespace, where much of the kernel opens up.
import ctypes
import os

number = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
if ctypes.CDLL(None).syscall(number, 0x10000000) == 0:
    print("BREACH")
