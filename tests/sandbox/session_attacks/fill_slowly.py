# Stays below the limits in each call, and goes past them in all.
chunks = [open(f"part{i}", "wb") for i in range(8)]
chunks[0].write(b"x" * (6 << 20))
chunks[0].flush()
# --- next call
chunks[1].write(b"x" * (6 << 20))
chunks[1].flush()
# --- next call
import time

chunks[2].write(b"x" * (6 << 20))
chunks[2].flush()
time.sleep(0.3)
print("BREACH" if all(chunk.tell() for chunk in chunks[:3]) else "")
