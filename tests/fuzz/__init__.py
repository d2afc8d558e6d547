"""Foreign bytes, made worse: every parser either takes them or refuses them in words.

    python -m tests.fuzz --seconds 60 --seed 1            every target, a minute each
    python -m tests.fuzz --targets zip,docx --seconds 600
    python -m tests.fuzz --targets zip --replay FILE      one failing input again

Seeds are made up in :mod:`tests.fuzz.seeds`; ``corpus/<target>/`` holds inputs that once did harm.
"""
