# Reads the next calls from their pipe before the runner does.
import os
import threading


def work(descriptor):
    while True:
        try:
            os.read(descriptor, 1 << 16)
        except OSError:
            return


for descriptor in range(3, 64):
    threading.Thread(target=work, args=(descriptor,), daemon=True).start()
# --- next call
print("lost")
# --- next call
print("lost too")
