# Writes many files, each within its limit.
import time

for number in range(64):
    with open(f"part{number}", "wb") as file:
        file.write(bytes(1 << 20))
    time.sleep(0.005)
print("BREACH")
