# Loads a map into the kernel.
# control: root (most kernels refuse it to others)
import ctypes
import os
import struct

number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
attributes = ctypes.create_string_buffer(struct.pack("5I", 2, 4, 4, 1, 0) + bytes(100))
if ctypes.CDLL(None).syscall(number, 0, attributes, 120) >= 0:
    print("BREACH")
