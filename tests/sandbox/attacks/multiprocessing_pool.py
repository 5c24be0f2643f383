# Runs other processes by the library.
import multiprocessing
import os

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        if pool.apply(os.getpid) != os.getpid():
            print("BREACH")
