# Reads another process's memory by process_vm_readv.
import ctypes


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


buffer = ctypes.create_string_buffer(32)
here, there = Part(ctypes.addressof(buffer), 32), Part(int("@ADDRESS@"), 32)
one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
ctypes.CDLL(None).process_vm_readv(int("@VICTIM@"), ctypes.byref(here), one, ctypes.byref(there), one, none)
print(buffer.raw)
