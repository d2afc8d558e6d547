"""WHAT: plain functions of plain values. Nothing here imports flows or expectations; only ``steps`` knows Prefect."""
