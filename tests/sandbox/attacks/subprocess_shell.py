# Runs a shell.
import subprocess

print(subprocess.run("echo BREACH", shell=True, capture_output=True).stdout.decode())
