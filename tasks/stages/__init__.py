"""The stages of ``prepare``, each a plain function from files to files. Small values go in and come out.

Order: index → parse → validate metadata → convert → validate images → assemble → describe → publish. A stage that was
done before is done again only as far as its result is missing; what costs time (chunks, shards) is found by name.
"""
