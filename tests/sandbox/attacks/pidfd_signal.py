# Ends another process through a descriptor of it.
import os
import signal

signal.pidfd_send_signal(os.pidfd_open(int("@VICTIM@")), 15)
