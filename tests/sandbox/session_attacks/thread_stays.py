# Leaves a thread behind that computes, prints and waits for the next call.
import threading


def work():
    while True:
        print("BREACH" if "later" in globals() and later == "other" else "", end="")


for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
# --- next call
later = "own"
print("own")
# --- next rollout
print("BREACH" if "later" in globals() else "")
import threading

print("BREACH" if threading.active_count() > 1 else "")
