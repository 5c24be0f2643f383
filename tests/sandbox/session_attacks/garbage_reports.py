# Writes what is no report, without end and without a line's end.
import os
import threading

for piece in (b"F", b"R", b"\n", b"[" * 60000, b"{" * 60000, b"NaN\n", b"\xff\x00\n"):
    os.write(3, piece)


def work():
    while True:
        os.write(3, b"x" * 4096)


threading.Thread(target=work, daemon=True).start()
# --- next call
print("here")
# --- next call
print("here")
