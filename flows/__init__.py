"""WHEN: Prefect flows and the command line. They only wire: no parsing, no loop over samples."""
