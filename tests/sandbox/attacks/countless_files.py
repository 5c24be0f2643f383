# Fills a folder with empty files.
import time

for number in range(3000):
    open(f"part{number}", "w").close()
time.sleep(0.3)
print("BREACH")
