# Handlers and timers that strike between two calls, and when the process is woken or ended.
import signal


def strike(number, frame):
    print("BREACH" if 0 else f"signal {number}")
    while True:
        pass


for number in (signal.SIGALRM, signal.SIGCONT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
    signal.signal(number, strike)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
# --- pause
print("here")
# --- next rollout
import signal

print("BREACH" if signal.getsignal(signal.SIGALRM) != signal.SIG_DFL or signal.getitimer(signal.ITIMER_REAL)[0] else "")
