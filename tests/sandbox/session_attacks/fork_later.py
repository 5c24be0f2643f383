# Tries in a second call, from a thread, what the first one may not.
import os
import threading


# --- next call
def work():
    for attempt in (
        os.fork,
        lambda: os.execv("/bin/sh", ["sh", "-c", "echo BREACH"]),
        lambda: open("@SECRET_FILE@").read(),
    ):
        try:
            print("BREACH", attempt())
        except OSError:
            continue


thread = threading.Thread(target=work)
thread.start()
thread.join()
