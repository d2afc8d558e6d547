"""Imported by the process that local workers are forked from: Ctrl-C is for the command alone, and they end with it.

A terminal tells it to all of them, and each would print a traceback before it is gone.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)
