# Leaves a word in the name of a file, and looks for it a run later in the memory it was born with: whoever listed the
# folder has held that name.
# kind: twice
# control: none (there is no server outside)
import ctypes
import gc
import os
import re
import time

libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
read, write = os.pipe()


def regions():
    """All that lies within 64 MB of an object: a pipe takes what is mapped and refuses the rest without a crash."""
    seen = {id(one) >> 26 for one in gc.get_objects()} | {ctypes.addressof(ctypes.create_string_buffer(1)) >> 26}
    seen.add(libc.sbrk(0) >> 26)  # what C libraries allocate
    for block in sorted(seen | {one - 1 for one in seen} | {one + 1 for one in seen}):
        for page in range(block << 26, (block + 1) << 26, 1 << 15):
            size = libc.write(write, ctypes.c_void_p(page), ctypes.c_size_t(1 << 15))
            if size > 0:
                yield os.read(read, size)


pattern = re.compile(rb"note:[0-9a-f]{16}")
if any(pattern.search(content) for content in regions()):
    print("BREACH")
for number in range(200):
    open(f"{number}note:{os.urandom(8).hex()}" * 8, "w").close()
time.sleep(0.1)
