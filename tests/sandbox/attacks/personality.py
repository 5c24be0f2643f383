# Turns off the randomness of addresses.
import ctypes
import os

number = {"x86_64": 135, "aarch64": 92}[os.uname().machine]
if ctypes.CDLL(None).syscall(number, 0x0040000) >= 0:
    print("BREACH")
