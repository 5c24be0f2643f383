# Counts what the processor does.
# control: root (a sysctl may refuse it to others)
import ctypes
import os
import struct

number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]
attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 128, 0) + bytes(112))
if ctypes.CDLL(None).syscall(number, attributes, 0, -1, -1, 0) >= 0:
    print("BREACH")
