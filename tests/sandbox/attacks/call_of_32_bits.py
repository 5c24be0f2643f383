# Calls the kernel as a 32-bit program, where numbers mean other calls: 20 is getpid there.
# control: anyone on x86_64
import ctypes
import mmap
import os

code = bytes.fromhex("b814000000cd80c3")  # mov eax, 20; int 0x80; ret
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
if function() == os.getpid():
    print("BREACH")
