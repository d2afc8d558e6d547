"""A first draft of a dataset's declaration, guessed from a table and a folder of images that nobody has declared yet.

``found`` looks at what is there, ``pairing``, ``columns``, ``labels`` and ``looks`` guess what it means, ``draft`` puts
the guesses together, ``writing`` makes two Python files of them. A guess always says what it rests on.
"""
