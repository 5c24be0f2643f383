# Computes on while nobody has called it.
import threading
import time

ticks = 0


def work():
    global ticks
    while True:
        ticks += 1
        time.sleep(0.001)


threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
before = ticks
# --- pause
print("BREACH" if ticks - before > 300 else "")
