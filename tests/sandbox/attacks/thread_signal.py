# Ends another process by a signal to its thread.
import ctypes
import os

number = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
ctypes.CDLL(None).syscall(number, int("@VICTIM@"), int("@VICTIM@"), 15)
