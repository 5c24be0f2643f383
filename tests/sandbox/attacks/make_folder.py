# Makes a folder outside.
import os

os.mkdir("@PUBLIC@/planted")
