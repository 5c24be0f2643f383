# Prints more than anyone can read, in this call and between calls.
import threading


def work():
    while True:
        print("x" * 1000)


print("y" * 100_000)
# --- next call
threading.Thread(target=work, daemon=True).start()
# --- next call
print("z" * 100_000)
