# Mounts a file system over a folder, in a namespace of its own.
import ctypes

libc = ctypes.CDLL(None)
libc.unshare(0x10000000 | 0x20000)
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0:
    print("BREACH")
