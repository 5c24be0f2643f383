# Makes a fifo outside.
import os

os.mkfifo("@PUBLIC@/planted")
