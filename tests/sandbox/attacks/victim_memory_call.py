# Reads another process's memory by process_vm_readv.
import ctypes
import os


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


number = {"x86_64": 310, "aarch64": 270}[os.uname().machine]
buffer = ctypes.create_string_buffer(32)
here, there = Part(ctypes.addressof(buffer), 32), Part(int("@ADDRESS@"), 32)
libc = ctypes.CDLL(None)
libc.syscall(number, int("@VICTIM@"), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
print(buffer.raw)
