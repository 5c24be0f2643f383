# Lists a folder outside; the secret is a file's name too.
import os

print(os.listdir("@PUBLIC@"))
