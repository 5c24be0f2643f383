# Leaves descriptors open, and looks for another rollout's.
import os

pipes = [os.pipe() for _ in range(8)]
for _, write in pipes:
    os.write(write, b"left")
# --- next rollout
import os

for descriptor in range(3, 64):
    try:
        os.set_blocking(descriptor, False)
        if os.read(descriptor, 4) == b"left":
            print("BREACH")
    except OSError:
        continue
