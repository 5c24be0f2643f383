# Keeps files alive by mapping one page of each: neither a name nor a descriptor is left to count.
import ctypes
import mmap
import os
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
for number in range(40):
    part = os.open(f"part{number}", os.O_CREAT | os.O_RDWR)
    os.write(part, bytes(2 << 20))
    if libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, part, ctypes.c_long(0)) in (
        None,
        2**64 - 1,
    ):
        raise OSError(ctypes.get_errno())
    os.unlink(f"part{number}")
    os.close(part)
    time.sleep(0.01)
print("BREACH")
