# Reaches for another rollout's process, which is paused meanwhile: memory, descriptors, signals, tracing.
import ctypes
import os
import signal

other = @OTHER@
for path in (f"/proc/{other}/mem", f"/proc/{other}/environ", f"/proc/{other}/maps", f"/proc/{other}/fd/0"):
    try:
        print("BREACH", open(path, "rb").read(64))
    except OSError:
        pass
for number in (0, signal.SIGCONT, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1):
    try:
        os.kill(other, number)
        print("BREACH")
    except OSError:
        pass
# --- next call
ctypes.CDLL(None).ptrace(16, other, 0, 0)
print("BREACH")
