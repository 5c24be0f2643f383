# Takes memory in shared mappings.
import mmap

blocks = [mmap.mmap(-1, 1 << 28) for _ in range(6)]
print("BREACH")
