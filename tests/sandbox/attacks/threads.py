# Starts more threads than it may.
import threading
import time

threading.stack_size(1 << 16)
for _ in range(400):
    threading.Thread(target=time.sleep, args=(0.6,), daemon=True).start()
time.sleep(0.3)
print("BREACH")
