# Watches what others do to files.
import ctypes

libc = ctypes.CDLL(None)
watch = libc.inotify_init()
if watch >= 0 and libc.inotify_add_watch(watch, b"@PUBLIC@", 0x100) >= 0:
    print("BREACH")
